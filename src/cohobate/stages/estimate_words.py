"""The totals of an estimate in words."""

from __future__ import annotations

from collections.abc import Sequence

from cohobate.config import Recipe
from cohobate.core.formatting import size
from cohobate.stages import disk
from cohobate.stages.estimate import Line, Machine, less_memory
from cohobate.stages.taught import Taught, shape, taught_by


def sentences(recipe: Recipe, lines: Sequence[Line], machine: Machine) -> list[str]:
    """The totals of the lines, and whether they fit into the machine's memory."""
    parts = [
        f"{sum(line.flops for line in lines):.2g} FLOPs, about {sum(line.hours for line in lines):.1f} GPU-hours at "
        f"{machine.utilisation:.0%} of the peak, if every response is as long as its limit; shorter ones cost less"
    ]
    most = max(lines, key=lambda line: line.memory)
    fits = "fits into" if most.memory <= machine.memory else "does not fit into"
    parts.append(
        f"the most memory is needed by {most.stage} ({most.work}): {most.memory:.1f} GiB a GPU, which {fits} "
        f"{machine.memory:.0f} GiB"
    )
    large = [line for line in lines if line.memory > machine.memory]
    # One sentence for lines of the same work.
    parts += dict.fromkeys(f"less memory for {line.stage} ({line.work}): {less_memory(line)}" for line in large)
    taught = taught_by(recipe)
    largest = [each.config for each in taught if each.config is not None]
    parts.append(
        f"about {size(disk.needed(recipe, shape(recipe.student.model), largest, half=machine.half))} of disk while it "
        "runs"
    )
    if recipe.route is not None and recipe.route.column is not None:
        parts.append(f"the column '{recipe.route.column}' is taken to send as many questions to each teacher")
    for each in taught:
        if each.config is None:
            parts.append(_of_endpoint(each, lines))
    return parts


def _of_endpoint(taught: Taught, lines: Sequence[Line]) -> str:
    [generation] = [line for line in lines if (line.model, line.work) == (taught.label, "generation")]
    price = taught.settings.cost_usd(0, generation.tokens)
    by_batch = f" in batches, at {taught.settings.batch_price:.0%} of its price" if taught.settings.batch else ""
    cost = "" if price is None else f", at most {price:.2f} USD for what it writes{by_batch}"
    which = "the endpoint" if taught.label == "teacher" else taught.label
    return f"{which} writes at most {generation.tokens:,} tokens in {generation.sequences:,} responses{cost}"
