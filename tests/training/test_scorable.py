"""The teacher in this process: triples longer than its context, and the precision of its products."""

from pathlib import Path

import pytest
import torch

from cohobate.core.errors import SelectionError
from cohobate.models.chat_template import PromptFormat, question_ids
from cohobate.models.loading import load
from cohobate.models.sequence import TrainingSequence
from cohobate.training.distributed import ALONE
from cohobate.training.objectives.base import TeacherNeeds
from cohobate.training.scored_source import scorable
from cohobate.training.scoring.base import ScoringInput
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


def test_a_teacher_s_products_are_bfloat16_where_the_student_s_are(tmp_path: Path) -> None:
    teacher = load("world/teacher", device="cpu")
    prompt = question_ids(teacher.tokenizer, "1 + 1 = ?", PromptFormat())
    response = teacher.tokenizer("1 + 1 = 2. The answer is 2.").input_ids
    ids = torch.tensor([[*prompt, *response]])

    def own(half: bool) -> torch.Tensor:
        with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=half):
            logits = teacher.model(ids).logits[0, len(prompt) - 1 : -1].float()
        logprobs: torch.Tensor = logits.log_softmax(-1).gather(-1, torch.tensor(response)[:, None])[:, 0]
        return logprobs

    needs = TeacherNeeds(hidden=True)
    for half in (False, True):
        folder = tmp_path / str(half)
        scorer = LocalScorer(teacher, PromptFormat(), needs, folder, 1000, ALONE, keeps=False, half=half)
        [scores] = scorer.score(0, [ScoringInput(0, "1 + 1 = ?", response)])
        assert torch.allclose(scores.logprobs, own(half), atol=0.15 if half else 1e-5)
        assert half is not torch.allclose(scores.logprobs, own(False), atol=1e-5)
        assert scores.hidden is not None and scores.hidden.dtype == torch.float32
