"""Triples that are longer than the context of the teacher that scores them."""

from pathlib import Path

import pytest

from cohobate.core.errors import SelectionError
from cohobate.models.chat_template import PromptFormat, question_ids
from cohobate.models.loading import load
from cohobate.models.sequence import TrainingSequence
from cohobate.training.distributed import ALONE
from cohobate.training.objectives.base import TeacherNeeds
from cohobate.training.scored_source import scorable
from cohobate.training.scoring.local import LocalScorer


def test_rows_beyond_the_teacher_s_context_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    teacher = load("world/teacher", device="cpu")
    scorer = LocalScorer(teacher, PromptFormat(), TeacherNeeds(), tmp_path, 1000, ALONE, keeps=False)
    room = teacher.config.max_position_embeddings - len(question_ids(teacher.tokenizer, "1 + 1 = ?", PromptFormat()))
    rows = [TrainingSequence([1] * (3 + length), 3) for length in (2, room, room + 1)]
    assert scorable("sft", rows, ["1 + 1 = ?"] * 3, scorer) == [True, True, False]
    assert "sft: 1 of 3 rows are set aside" in capsys.readouterr().err
    with pytest.raises(SelectionError, match="every triple is longer than the context of the teacher"):
        scorable("sft", rows[2:], ["1 + 1 = ?"], scorer)
