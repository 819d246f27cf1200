"""Figures of the page about objectives, computed when the site is built by the program's own losses."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

if TYPE_CHECKING:
    import torch

FOLDER = "explanation/figures"
TOKENS = 60
COLOURS = ("#4c72b0", "#c44e52", "#55a868", "#8172b2", "#937860")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Draw them, and add them to the files of the site."""
    figures = {"divergences": _divergences, "tail": _tail, "jensen-shannon": _jensen_shannon, "length": _length}
    for name, draw in figures.items():
        files.append(File.generated(config, f"{FOLDER}/{name}.svg", content=_svg(draw)))
    return files


def _svg(draw: Callable[[Any], None]) -> str:
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "cohobate", "font.family": "sans-serif"}):
        figure = Figure(figsize=(6.4, 3.2), layout="constrained")
        axes = figure.subplots()
        draw(axes)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False)
        file = io.StringIO()
        figure.savefig(file, format="svg", metadata={"Date": None})
    return file.getvalue()


def _teacher() -> torch.Tensor:
    """Log-probabilities [1, TOKENS] with two modes: two ways to go on, one of them likelier."""
    import torch

    at = torch.arange(TOKENS, dtype=torch.float32)
    density = 0.65 * torch.exp(-((at - 15) ** 2) / 30) + 0.35 * torch.exp(-((at - 42) ** 2) / 60)
    return (density + 1e-6).log().log_softmax(-1)[None]


def _fitted(loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> torch.Tensor:
    """The best student [TOKENS] of one mode, which has a place and a width, under a loss of log p and log q."""
    import torch

    at, teacher = torch.arange(TOKENS, dtype=torch.float32), _teacher()
    best: tuple[float, torch.Tensor] = (float("inf"), teacher)
    for place in range(5, 55):
        for width in (2.0, 3.0, 4.0, 6.0, 8.0, 11.0, 14.0, 18.0):
            student = (-((at - place) ** 2) / (2 * width**2)).log_softmax(-1)[None]
            best = min(best, (float(loss(student, teacher)), student), key=lambda pair: pair[0])
    return best[1][0].exp()


def _divergences(axes: Any) -> None:
    from cohobate.training.objectives.distributions import kl
    from cohobate.training.objectives.gkd import jensen_shannon

    ways: dict[str, Callable[[Any, Any], Any]] = {
        "forward KL (q ‖ p)": lambda p, q: kl(q, p).sum(),
        "reverse KL (p ‖ q)": lambda p, q: kl(p, q).sum(),
        "Jensen-Shannon, β = 0.5": lambda p, q: jensen_shannon(p, q, 0.5).sum(),
    }
    axes.fill_between(range(TOKENS), _teacher()[0].exp(), color="#bbbbbb", label="teacher q")
    for (name, loss), colour in zip(ways.items(), COLOURS, strict=False):
        axes.plot(_fitted(loss), color=colour, label=name)
    axes.set(xlabel="token", ylabel="probability", title="The best student of one mode")


def _tail(axes: Any) -> None:
    """The student's mass on the teacher's top 3 after each way to treat the rest, by descent on the loss."""
    import torch

    from cohobate.models.token_loss import Tokens
    from cohobate.training.objectives.distributions import kl, top_k_and_tail

    teacher = torch.tensor([0.4, 0.2, 0.135, *[0.265 / 7] * 7]).log()[None]
    top, ids = teacher.topk(3)

    def masses(loss: Callable[[torch.Tensor], torch.Tensor]) -> list[float]:
        logits = torch.zeros(1, 10, requires_grad=True)
        optimizer = torch.optim.Adam([logits], lr=0.05)
        mass = []
        for _ in range(300):
            mass.append(float(logits.detach().softmax(-1)[0, :3].sum()))
            optimizer.zero_grad()
            loss(logits).backward()
            optimizer.step()
        return mass

    def bucketed(logits: torch.Tensor) -> torch.Tensor:
        none = torch.zeros(1, dtype=torch.long)
        return kl(*top_k_and_tail(logits, Tokens(none, teacher_top_ids=ids, teacher_top_logprobs=top))).sum()

    def listed(logits: torch.Tensor) -> torch.Tensor:
        return logits.log_softmax(-1)[:, :3]

    axes.axhline(float(top.exp().sum()), color="#888888", linestyle=":", label="teacher's mass")
    axes.plot(masses(bucketed), color=COLOURS[0], label="with a bucket for the rest")
    axes.plot(masses(lambda x: kl(listed(x), top).sum()), color=COLOURS[1], label="reverse KL, the rest left out")
    axes.plot(masses(lambda x: kl(top, listed(x)).sum()), color=COLOURS[2], label="forward KL, the rest left out")
    axes.set(xlabel="step", ylabel="student's mass on the top 3", ylim=(0, 1.02), title="What becomes of the tail")


def _jensen_shannon(axes: Any) -> None:
    import torch

    from cohobate.training.objectives.gkd import jensen_shannon

    student = torch.tensor([0.7, 0.2, 0.1]).log()[None]
    teacher = torch.tensor([0.3, 0.4, 0.3]).log()[None]
    betas = [step / 100 for step in range(101)]
    values = [float(jensen_shannon(student, teacher, beta)) for beta in betas]
    published = [value * beta * (1 - beta) for value, beta in zip(values, betas, strict=True)]
    axes.plot(betas, values, color=COLOURS[0], label="here: divided by β (1 − β)")
    axes.plot(betas[1:-1], published[1:-1], color=COLOURS[1], label="as published")
    axes.set(xlabel="β", ylabel="loss, nats", ylim=(0, None), title="One student, one teacher, every β")


def _length(axes: Any) -> None:
    from cohobate.config import Opd
    from cohobate.training.objectives.length import prices

    tokens = list(range(401))
    for (target, price), colour in zip(((200, 1.0), (200, 2.0), (100, 1.0)), COLOURS, strict=False):
        priced = Opd.model_validate({"max_tokens": 401, "length": {"target": target, "price": price}})
        axes.plot(tokens, prices(priced, tokens), color=colour, label=f"target {target}, price {price:g}")
    axes.set(xlabel="tokens of the rollout", ylabel="reward lost", title="The price of length")
