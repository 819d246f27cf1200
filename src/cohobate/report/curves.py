"""The curves of a stage while it trains: loss, reverse KL, accuracy, each over the steps, as one figure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cohobate.report.figures import colour, percents, plain, svg

MEASURES = {"loss": "loss", "reverse_kl": "reverse KL", "accuracy": "accuracy"}
"""What is drawn, where it is measured."""
_WIDTH, _HEIGHT = 3.4, 2.3  # inches of one curve
_POINTS, _DOTTED = 400, 40  # of a curve: of more only every n-th is drawn; of fewer each has a dot


def draw_curves(points: Mapping[str, list[tuple[int, float]]]) -> str:
    """SVG of (step, value) points by the names of MEASURES; empty where no curve has a point."""
    curves = [(name, points[name]) for name in MEASURES if points.get(name)]

    def draw(pyplot: Any) -> Any:
        if not curves:
            return None
        figure, axes = pyplot.subplots(
            1, len(curves), figsize=(_WIDTH * len(curves), _HEIGHT), layout="constrained", squeeze=False
        )
        for axis, (name, curve) in zip(axes[0], curves, strict=True):
            shown = curve[:: max(1, len(curve) // _POINTS)]
            steps, values = zip(*shown, strict=True)
            axis.plot(steps, values, color=colour("opd"), marker="." if len(shown) < _DOTTED else "")
            axis.set_xlabel("step")
            axis.set_title(MEASURES[name], fontsize="medium")
            if name == "accuracy":
                percents(axis.yaxis)
        return figure

    return plain(svg(draw))
