"""An objective that learns from triples, where none is selected."""

import json
from pathlib import Path

import pytest

from cohobate.config.load import load_recipe
from cohobate.core.errors import SelectionError
from cohobate.stages import opd, questions, sft, triples
from tests.support.pipeline import SMALL


@pytest.mark.trains
def test_a_mixed_objective_without_a_triple_ends_in_a_sentence(data: Path, tmp_path: Path) -> None:
    file = tmp_path / "sums.jsonl"
    rows = [{"question": f"{n} + 1 = ?", "answer": "999", "split": ("train", "fresh")[n % 2]} for n in range(4)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = [
        "questions.source=file",
        f"questions.path={file}",
        "triples.max_tokens=16",
        "sft.steps=0",
        "opd.steps=2",
    ]
    objectives = (
        ["opd.objective=gkd", "opd.gkd.on_policy=0.5"],
        ["opd.objective=ghost", "opd.ghost.source=triples"],
        ["opd.objective=dpo"],
    )
    recipe, *others = (load_recipe("tiny", [*SMALL, *settings, *each]) for each in objectives)
    source = questions.write(recipe)
    taught = triples.write(recipe, source)
    start = sft.train(recipe, taught, source)
    for each in (recipe, *others):
        with pytest.raises(SelectionError, match=r"no triple for sft.select = 'correct' .* set sft.select = 'all'"):
            opd.train(each, start, source, taught)
