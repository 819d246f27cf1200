"""docs/families.md: a row for each family, with what its trials found."""

import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from tests.support.family_trial import OBJECTIVES, Trial

_HEAD = f"""# Families of models

Each family of causal language models in transformers {{version}}, and checkpoints of images, sound and text that are
used for text, built tiny with random weights and the shipped tokenizer, as student and as teacher of another of its
kind, in float32 on a CPU. Written by `make families`. A figure
is the largest distance, in nats per token, from the model's own forward pass over each row alone.

- sampler: log-probabilities of sampled tokens, before and after a step
- teacher: scores of those tokens
- trainer: loss per token of {", ".join(OBJECTIVES)}, and the relative error of its gradient
- saved: log-probabilities of the published model, read again
- LoRA: the largest of the four with adapters on every linear layer, {OBJECTIVES[0]} alone

"""
# The tests' own folders of checkpoints.
_FOLDER = re.compile(r"'/[^']*/(student|teacher)'")
_ROW = re.compile(r"^\| `([^`]+)` \|", re.MULTILINE)


def write(page: Path, trials: Sequence[Trial], failing: Collection[str], left_out: Mapping[str, str]) -> None:
    """The rows of `trials`, in the order of names; those of other families stay as they are.

    failing: the families whose trials are known to fail, which have no row. left_out: reasons by family.
    """
    import transformers

    old = page.read_text(encoding="utf-8") if page.is_file() else ""
    rows = {match[1]: line for line in old.splitlines() if (match := _ROW.match(line))}
    by_family: dict[str, list[Trial]] = {}
    for each in trials:
        by_family.setdefault(each.family, []).append(each)
    rows |= {family: _row(family, made) for family, made in by_family.items() if len(made) == 2}
    right = sum(" refused: " not in row.split("|")[8] for row in rows.values())
    lines = [
        f"{len(rows) + len(failing)} families: {right} right, {len(rows) - right} refused in the sentence that their "
        "row gives.",
        *([f"{len(failing)} fail their trials and have no row: {', '.join(sorted(failing))}."] if failing else []),
        "",
        "| family | class | sampled | sampler | teacher | trainer | saved | LoRA |",
        "| --- | --- | --- | ---: | ---: | ---: | ---: | --- |",
        *(rows[family] for family in sorted(rows)),
        "",
        "Not tried:",
        "",
        *(f"- {why}: {', '.join(sorted(f for f in left_out if left_out[f] == why))}" for why in _reasons(left_out)),
    ]
    head = _HEAD.replace("{version}", str(transformers.__version__))
    page.write_text(head + "\n".join(lines) + "\n", encoding="utf-8")


def _reasons(left_out: Mapping[str, str]) -> list[str]:
    return sorted(set(left_out.values()))


def listed(page: Path) -> set[str]:
    """The families that have a row."""
    return set(_ROW.findall(page.read_text(encoding="utf-8")))


def _row(family: str, made: list[Trial]) -> str:
    full, lora = made
    way = {"": "own slots", **_WAYS}[full.way]
    if full.refused:
        return f"| `{family}` | {full.kind} | | | | | | refused: {_cell(full.refused)} |"
    figures = " | ".join(f"{value:.0e}" for value in (full.sampler, full.teacher, full.trainer, full.reloaded))
    adapted = f"not with LoRA: {_cell(lora.refused)}" if lora.refused else f"{lora.worst:.0e}"
    return f"| `{family}` | {full.kind} | {way} | {figures} | {adapted} |"


_WAYS = {
    "sampled with transformers' own cache, which is slower": "own cache of transformers",
    "sampled without a cache, a pass over the whole row for each token, which is slow": "a pass a token",
}


def _cell(text: str) -> str:
    return _FOLDER.sub(r"'\1'", " ".join(text.split())).replace("|", "\\|")
