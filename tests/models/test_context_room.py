"""Prompts and responses that do not fit into a model's positions."""

from types import SimpleNamespace
from typing import Any

import polars as pl
import pytest

from cohobate.core.errors import ModelError
from cohobate.core.model_shape import context_of
from cohobate.models.chat_template import PromptFormat, question_ids
from cohobate.models.context_room import fitting_rows, set_aside
from cohobate.models.loading import LoadedModel, outline
from cohobate.models.sampling.sampler import Decoding, sample
from cohobate.models.sequence import TrainingSequence
from tests.support.zoo import build

LENGTHS = (3, 20, 25, 31)


def _drawn(model: Any) -> list[int]:
    prompts = [list(range(3, 3 + length)) for length in LENGTHS]
    rows = sample(model, prompts, Decoding(8, 0.0), None, eos_ids=(), pad_id=0)
    assert {row.finish_reason for row in rows} == {"length"}
    return [len(row.response_ids) for row in rows]


@pytest.mark.parametrize("name", ["qwen3", "gemma2", "lfm2"])
def test_a_response_ends_at_the_last_position(name: str) -> None:
    model = build(name)
    assert _drawn(model) == [8, 8, 8, 8]
    model.config.max_position_embeddings = 32
    assert _drawn(model) == [8, 8, 7, 1]


def test_a_prompt_that_fills_the_context_is_refused() -> None:
    for name in ("qwen3", "lfm2"):
        model = build(name)
        model.config.max_position_embeddings = 31
        with pytest.raises(
            ModelError, match=r"a prompt has 31 tokens, but the context of .* is 31; shorten or leave out"
        ):
            _drawn(model)


def test_a_rope_that_depends_on_the_longest_row_is_used_up_to_its_length() -> None:
    model = build("phi3")
    assert context_of(model.config) == 256 < model.config.max_position_embeddings
    prompts = [list(range(3, 253))]
    [row] = sample(model, prompts, Decoding(20, 0.0), None, eos_ids=(), pad_id=0)
    assert len(row.response_ids) == 6


def test_questions_that_fill_the_context_are_set_aside_and_named(
    teacher: LoadedModel, capsys: pytest.CaptureFixture[str]
) -> None:
    context, how = teacher.config.max_position_embeddings, PromptFormat()
    texts = ["2 + 2 = ?", *("one " * count for count in range(context // 8, context, 16)), "A long story. " * context]
    frame = pl.DataFrame({"question_id": [str(i) for i in range(len(texts))], "question": texts})
    for room in (1, 40):
        fitting = [text for text in texts if len(question_ids(teacher.tokenizer, text, how)) + room <= context]
        assert 1 < len(fitting) < len(texts) - 1
        assert set_aside("opd", frame, [(teacher, how)], room=room)["question"].to_list() == fitting
        count = len(texts) - len(fitting)
        assert f"opd: {count} of {len(texts)} questions are set aside" in capsys.readouterr().err
    assert set_aside("opd", frame[:1], [(teacher, how)]).equals(frame[:1])
    assert capsys.readouterr().err == ""


def test_rows_beyond_the_context_are_counted(teacher: LoadedModel, capsys: pytest.CaptureFixture[str]) -> None:
    context = teacher.config.max_position_embeddings
    rows = [TrainingSequence([1] * length, 1) for length in (2, context, context + 1)]
    assert fitting_rows("sft", rows, teacher) == [True, True, False]
    assert (
        f"1 of 3 rows are set aside, since prompt and response are longer than the {context}" in capsys.readouterr().err
    )


def test_without_a_limit_everything_fits() -> None:
    model = build("mamba")
    del model.config.max_position_embeddings  # which every family of the tests is given
    assert context_of(model.config) is None
    assert len(sample(model, [[5] * 700], Decoding(2, 0.0), None, eos_ids=(), pad_id=0)[0].response_ids) == 2


def test_a_template_longer_than_the_question_counts() -> None:
    """A template of thousands of tokens, as few-shot examples make it, around a short question."""
    base = outline("world/base")
    how = PromptFormat(template="plus " * 3000 + "{question}")
    limit = len(question_ids(base.tokenizer, "1 + 1?", how))
    config = base.config.__class__(**{**base.config.to_dict(), "max_position_embeddings": limit})
    assert context_of(config) == limit
    model = SimpleNamespace(config=config, tokenizer=base.tokenizer)
    questions = pl.DataFrame({"question": ["1 + 1?"]})
    assert len(set_aside("triples", questions, [(model, how)], room=0)) == 1
    assert len(set_aside("triples", questions, [(model, how)])) == 0
