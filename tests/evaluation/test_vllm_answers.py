"""Answers of a model in a vLLM engine, held against transformers: one engine, with a template that has everything."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from transformers import AutoTokenizer

from cohobate.config import Recipe, Verification
from cohobate.config.load import load_recipe
from cohobate.core.conversation import Conversation, Message
from cohobate.core.errors import EngineError
from cohobate.evaluation.accuracy import Exam, answer
from cohobate.evaluation.samplers import LocalSampler, ModelSampler, open_sampler
from cohobate.models.chat_template import question_ids, student_format
from cohobate.models.loading import load
from cohobate.models.sampling.decoding import Decoding, SamplingJob
from tests.support import zoo
from tests.support.vllm_runs import needs_vllm

pytestmark = needs_vllm

# It reads a variable and the clock, takes a system message, and opens a thought.
TEMPLATE = """{{ strftime_now('%d %b %Y') }} {{ mood }}
{% for message in messages %}{{ message.role }}: {{ message.content }}
{% endfor %}{% if add_generation_prompt %}assistant: <think>{% endif %}"""
# A rope that depends on the longest row of a batch, with tables far apart; and heads as wide as vLLM's kernels for
# processors need them.
LONG = {
    "rope_parameters": {"rope_type": "longrope", "rope_theta": 1e4, "short_factor": [1.0] * 16, "factor": 2.0}
    | {"long_factor": [1.0, 2.0, 4.0, 8.0] * 4, "original_max_position_embeddings": 256},
    **{"original_max_position_embeddings": 256, "hidden_size": 128, "intermediate_size": 256, "sliding_window": None},
}
QUESTIONS = [f"What is {n} + {n} * 3? Say why." for n in range(12)]


@dataclass
class Asked:
    recipe: Recipe
    engine: ModelSampler
    local: LocalSampler


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asked]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COHOBATE_DATA", str(tmp_path_factory.mktemp("data")))
        patch.setitem(zoo.CHANGES, "phi3", LONG)
        folder = zoo.write("phi3", tmp_path_factory.mktemp("models") / "phi3")
        student = [f"student.model={json.dumps(str(folder))}", f"student.template={json.dumps(TEMPLATE)}"]
        student += [
            "student.template_args={mood = 'glad'}",
            "student.template_date=2024-02-29",
            "student.system=Be <|im_end|>.",
        ]
        recipe = load_recipe(
            "tiny", ["runtime.threads=1", "evaluation.sampler=vllm", "evaluation.batch_size=8", *student]
        )
        engine = open_sampler(recipe, folder, "student")
        yield Asked(recipe, engine, LocalSampler(load(folder, device="cpu", template=TEMPLATE), 8))
        engine.close()


def table() -> pl.DataFrame:
    names = {"question_id": [f"q{n}" for n in range(len(QUESTIONS))], "question": QUESTIONS, "gold_answer": ["0"] * 12}
    return pl.DataFrame(names).with_columns(
        kind=pl.lit("sum"), depth=pl.lit(None, pl.Int64), conversation=pl.lit(None, pl.String)
    )


def answers(asked: Asked, sampler: ModelSampler, temperature: float = 0.0, **settings: Any) -> pl.DataFrame:
    exam = Exam(Decoding(40, temperature, **settings), 3 if temperature else 1, 0, Verification())
    return answer(sampler, student_format(asked.recipe), table(), exam)


def test_greedy_answers_are_those_of_transformers(asked: Asked) -> None:
    ours = answers(asked, asked.engine)
    assert ours.equals(answers(asked, asked.local)) and len(ours) == len(QUESTIONS)
    assert ours["response"].n_unique() > 8 and ours["response"].str.starts_with("<think>").all()


def test_the_prompts_are_those_of_the_models_own_template_and_the_continuation_is_transformers_own(
    asked: Asked,
) -> None:
    model, prompt_format = asked.local.model, student_format(asked.recipe)
    plain = AutoTokenizer.from_pretrained(model.path)
    prompts = [question_ids(asked.engine.model.tokenizer, question, prompt_format) for question in QUESTIONS[:3]]
    for prompt, question in zip(prompts, QUESTIONS, strict=False):
        text = f"29 Feb 2024 glad\nsystem: Be <|im_end|>.\nuser: {question}\nassistant: <think>"
        assert plain.decode(prompt).replace(" ", "").endswith(text.replace(" ", ""))
        # What people write stays text, and the thought that the template opens is a token.
        assert plain.eos_token_id not in prompt and prompt[-1] == plain.convert_tokens_to_ids("<think>")
    drawn = asked.engine.sample(SamplingJob(prompts, Decoding(24, 0.0), model.eos_ids, ["0", "1", "2"]))
    settings = {"max_new_tokens": 24, "do_sample": False, "eos_token_id": [2], "pad_token_id": 0}
    own = [model.model.generate(torch.tensor([prompt]), **settings)[0, len(prompt) :].tolist() for prompt in prompts]
    assert [response.response_ids for response in drawn] == own and len(own) == 3


def test_a_sampled_answer_has_noise_of_its_own_that_a_rerun_repeats(asked: Asked) -> None:
    once = answers(asked, asked.engine, 1.0)
    assert once.equals(answers(asked, asked.engine, 1.0))
    assert once["response"].n_unique() == len(once) == 36  # by question and by sample
    alone = asked.engine.sample(
        SamplingJob(
            [question_ids(asked.engine.model.tokenizer, QUESTIONS[5], student_format(asked.recipe))],
            *(Decoding(40, 1.0), asked.engine.model.eos_ids, ["q5/2"], 0),
        )
    )
    assert len(alone[0].response_ids) == once.filter(question_id="q5", sample_index=2)["tokens"].item()


def test_the_sampler_settings_are_the_jobs(asked: Asked) -> None:
    assert answers(asked, asked.engine, 1.0, top_k=1)["response"].n_unique() == len(QUESTIONS)
    greedy = answers(asked, asked.engine)["response"].unique().sort()
    assert answers(asked, asked.engine, 1.0, top_p=1e-6)["response"].unique().sort().equals(greedy)


def test_a_response_ends_at_the_job_s_ids_alone_and_at_the_context(asked: Asked) -> None:
    prompt = list(range(10, 40))
    free = asked.engine.sample(SamplingJob([prompt], Decoding(400, 0.0), (), ["0"]))[0]
    assert len(free.response_ids) == 256 - 30 and free.finish_reason == "length"  # up to where the rope changes
    local = asked.local.sample(SamplingJob([prompt], Decoding(400, 0.0), (), ["0"]))[0]
    assert free.response_ids == local.response_ids
    end = free.response_ids[7]
    cut = asked.engine.sample(SamplingJob([prompt], Decoding(400, 0.0), (end,), ["0"]))[0]
    first = free.response_ids.index(end) + 1
    assert (cut.response_ids, cut.finish_reason) == (free.response_ids[:first], "stop")


def test_conversations_are_rendered_by_the_same_template(asked: Asked) -> None:
    turns = (Message("user", "Hello"), Message("assistant", "Yes?"), Message("user", "What is 2 + 3?"))
    prompt = question_ids(asked.engine.model.tokenizer, Conversation(turns), student_format(asked.recipe))
    job = SamplingJob([prompt], Decoding(24, 0.0), asked.engine.model.eos_ids, ["0"])
    assert asked.engine.sample(job)[0].response_ids == asked.local.sample(job)[0].response_ids


def test_a_length_that_would_change_short_rows_is_refused_before_the_engine_starts(asked: Asked) -> None:
    recipe = asked.recipe.model_copy(
        update={
            "opd": asked.recipe.opd.model_copy(
                update={"vllm": asked.recipe.opd.vllm.model_copy(update={"max_length": 512})}
            )
        }
    )
    with pytest.raises(EngineError, match=r"opd\.vllm\.max_length is 512, but beyond 256 tokens"):
        open_sampler(recipe, Path(recipe.student.model), "student")
