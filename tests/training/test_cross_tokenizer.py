"""A teacher with another tokenizer: spans found by hand, probabilities by the chain rule, the gradient of a KL."""

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from cohobate.config import Opd
from cohobate.config.load import load_recipe
from cohobate.core.errors import ModelError, RecipeError
from cohobate.models.chat_template import PromptFormat, question_ids
from cohobate.models.loading import LoadedModel, load
from cohobate.models.logprobs import TokenScores
from cohobate.models.token_loss import Tokens
from cohobate.training.distributed import ALONE
from cohobate.training.objectives.base import on_policy
from cohobate.training.scoring.base import ScoringInput
from cohobate.training.scoring.cross_tokenizer import SpanScorer, ends, numbered, refuse_other_text, shares, sums
from tests.support.pipeline import SMALL, train_stages
from tests.support.rollouts import scored_rollout

END = "<end>"
TEMPLATE = "{% for m in messages %}{{ m['content'] }}{% endfor %}"


def tokenizer(*merges: tuple[str, str]) -> Any:
    """Over the alphabet {a, b} and what these pairs merge to, in this order."""
    pieces = [END, "a", "b", *("".join(pair) for pair in merges)]
    made = Tokenizer(models.BPE({piece: i for i, piece in enumerate(pieces)}, list(merges)))
    made.decoder = decoders.Fuse()
    made.pre_tokenizer = pre_tokenizers.Split("\n", "isolated")
    return PreTrainedTokenizerFast(tokenizer_object=made, eos_token=END, pad_token=END, chat_template=TEMPLATE)


def model(tokens: Any, seed: int) -> LoadedModel:
    torch.manual_seed(seed)
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    made = LlamaForCausalLM(LlamaConfig(vocab_size=len(tokens), initializer_range=0.6, **sizes)).eval()
    return LoadedModel(made, tokens, Path(), (0,))


def spans_of(text: str, ours: list[str], theirs: list[str]) -> tuple[list[int], list[int]]:
    student, teacher = (tokenizer(("a", "b"), ("ab", "a")), tokenizer(("b", "a")))
    one, other = (tokens.convert_tokens_to_ids(pieces) for tokens, pieces in ((student, ours), (teacher, theirs)))
    return numbered(ends(student, one, text), ends(teacher, other, text))


def test_spans_are_the_smallest_at_whose_ends_both_have_a_boundary() -> None:
    assert spans_of("aba", ["a", "b", "a"], ["a", "b", "a"]) == ([0, 1, 2], [0, 1, 2])
    assert spans_of("aba", ["ab", "a"], ["a", "ba"]) == ([0, 0], [0, 0])
    # Boundaries after 1, 2, 4, 5, 6 and after 1, 3, 5, 6.
    assert spans_of("ababab", ["a", "b", "ab", "a", "b"], ["a", "ba", "ba", "b"]) == ([0, 1, 1, 1, 2], [0, 1, 1, 2])
    assert spans_of("aba", ["aba"], ["a", "ba"]) == ([0], [0, 0])
    assert spans_of("", [], []) == ([], [])


def test_half_a_character_is_no_boundary_and_a_token_without_text_stays_with_the_one_before() -> None:
    assert numbered([1, None, 2, 3], [1, 2, 3]) == ([0, 1, 1, 2], [0, 1, 2])
    assert numbered([1, 1, 2], [1, 2]) == ([0, 0, 1], [0, 1])
    assert numbered([1, 2, None], [1, 2]) == ([0, 1, -1], [0, 1])


def test_sums_and_shares_over_spans() -> None:
    numbers = torch.tensor([0, 1, 1, -1, 2])
    total = sums(torch.tensor([1.0, 2.0, 3.0, 9.0, 4.0]), numbers, numbers)
    assert total.tolist() == [1, 5, 5, 0, 4] and shares(total, numbers).tolist() == [1, 2.5, 2.5, 0, 4]


@torch.no_grad()
def chain(teacher: LoadedModel, prompt: list[int], pieces: list[int]) -> list[float]:
    """Log-probabilities of `pieces`, one forward pass for each."""
    return [
        float(teacher.model(torch.tensor([[*prompt, *pieces[:n]]])).logits[0, -1].log_softmax(-1)[piece])
        for n, piece in enumerate(pieces)
    ]


def test_a_span_has_the_product_of_the_probabilities_of_the_teachers_pieces(tmp_path: Path) -> None:
    teacher, student = model(tokenizer(("b", "a")), 0), model(tokenizer(("a", "b"), ("ab", "a")), 1)
    prompt_format = PromptFormat()
    scorer = SpanScorer(teacher, student, prompt_format, tmp_path, 100, ALONE, keeps=True)
    response = student.tokenizer.convert_tokens_to_ids(["a", "b", "ab", "a", "b", END])
    [scores] = scorer.score(0, [ScoringInput(0, "abba", response)])
    read = teacher.tokenizer.convert_tokens_to_ids(["a", "ba", "ba", "b", END])
    one, two, three, four, end = chain(teacher, question_ids(teacher.tokenizer, "abba", prompt_format), read)
    assert scores.spans is not None and scores.spans.tolist() == [0, 1, 1, 1, 2, 3]
    expected = [one, *[(two + three) / 3] * 3, four, end]
    assert scores.logprobs.tolist() == pytest.approx(expected, abs=1e-5)
    assert len(scorer.teacher_ids(response)) == 5 and len(scorer.teacher_ids(response[:-1])) == 4
    # With one tokenizer for both, a span is a token.
    [same] = SpanScorer(student, student, prompt_format, tmp_path / "same", 100, ALONE, keeps=True).score(
        0, [ScoringInput(0, "ab", response[-2:])]
    )
    plain = chain(student, question_ids(student.tokenizer, "ab", prompt_format), response[-2:])
    assert same.logprobs.tolist() == pytest.approx(plain, abs=1e-5)


def test_the_expected_gradient_is_that_of_the_kl_over_spans(tmp_path: Path) -> None:
    """All responses of one token of the student, each of which is one or more letters to the teacher."""
    letters, pieces = tokenizer(), tokenizer(("a", "b"), ("b", "b"), ("ab", "a"))
    teacher, student = model(letters, 2), model(pieces, 3)
    scorer = SpanScorer(teacher, student, PromptFormat(), tmp_path, 100, ALONE, keeps=True)
    texts = [END, "a", "b", "ab", "bb", "aba"]
    torch.manual_seed(4)
    theta = torch.randn(len(texts), requires_grad=True)
    prompt = question_ids(letters, "ab", PromptFormat())
    log_q = torch.tensor([sum(chain(teacher, prompt, [0] if t == END else letters(t)["input_ids"])) for t in texts])

    log_p = theta.log_softmax(-1)
    (log_p.exp() * (log_p - log_q)).sum().backward()
    exact, theta.grad = theta.grad, None

    objective = on_policy(Opd.model_validate({"objective": "sampled", "sampled": {"spans": True}}))
    inputs = [ScoringInput(n, "ab", [n]) for n in range(len(texts))]
    for item, scores in zip(inputs, scorer.score(0, inputs), strict=True):
        rollout = scored_rollout(item.row, [item.row], [float(log_p.detach()[item.row])], scores)
        [learnt] = objective.sequences([rollout])
        loss = objective.loss(None)(theta[None], Tokens(torch.tensor([item.row]), **learnt.features))["loss"]
        (float(log_p.detach()[item.row].exp()) * loss).backward()
    assert exact is not None and theta.grad is not None and float(exact.abs().max()) > 0.1
    torch.testing.assert_close(theta.grad, exact, atol=1e-5, rtol=1e-4)


def test_the_tokens_of_a_span_share_its_advantage() -> None:
    objective = on_policy(Opd.model_validate({"objective": "sampled", "sampled": {"spans": True}}))
    teacher = TokenScores(torch.tensor([-0.75, -0.75, -1.0, 0.0]), spans=torch.tensor([0, 0, 1, -1]))
    [learnt] = objective.sequences([scored_rollout(0, [5, 6, 7, 8], [-1.0, -2.0, -0.5, -3.0], teacher)])
    assert learnt.features["advantages"].tolist() == [1.5, 1.5, -0.5, 0.0]
    assert learnt.features["teacher_logprobs"].tolist() == [-0.25, -1.25, -1.0, -3.0]


def with_letters(folder: Path) -> None:
    """A copy of the student whose tokenizer merges nothing: it writes the same text in single letters."""
    student = load("world/base", device="cpu")
    student.model.save_pretrained(folder)
    student.tokenizer.save_pretrained(folder)
    path = folder / "tokenizer.json"
    written = json.loads(path.read_text())
    written["model"]["merges"] = []
    path.write_text(json.dumps(written))


@pytest.mark.trains
def test_a_stage_learns_from_a_teacher_that_cuts_text_otherwise(data: Path, tmp_path: Path) -> None:
    with_letters(tmp_path / "letters")
    recipe = load_recipe(
        "tiny",
        [
            *SMALL,
            *("questions.train=48", "sft.steps=6", "sft.select=all", "sft.evaluate_questions=0"),
            *("opd.steps=2", "opd.prompts=4", "opd.warmup=0", "opd.evaluate_questions=0", "opd.max_tokens=24"),
            *("opd.objective=sampled", "opd.sampled.spans=true", f"student.model={tmp_path / 'letters'}"),
        ],
    )
    made = train_stages(recipe)["opd"]
    log = pl.read_parquet(made.path / "rollouts.parquet")
    several = 0
    for spans, logprobs in log.select("teacher_spans", "teacher_logprobs").iter_rows():
        assert len(spans) == len(logprobs) and spans == sorted(spans)
        several += sum(spans[i] == spans[i + 1] for i in range(len(spans) - 1))
    assert several > 0
    assert pl.read_parquet(made.path / "metrics.parquet")["reverse_kl"].is_finite().all()
    [scoring] = [entry for entry in made.manifest.ledger if entry["work"] == "scoring"]
    written = [*log["prompt_ids"].to_list(), *log["response_ids"].to_list()]
    assert scoring["tokens"] < sum(map(len, written))  # the teacher's pieces are longer


def test_what_spans_cannot_do_is_refused(tmp_path: Path) -> None:
    spans = ["opd.objective=sampled", "opd.sampled.spans=true"]
    refused = {
        "opd.sampled.discount=0.5": "neither discount nor control_variate",
        "opd.sampled.control_variate=4": "neither discount nor control_variate",
        "opd.overlap=true": r"overlap does not go with this sampled\.spans",
        "teacher.scoring=server": r"needs a teacher in this process; set teacher\.scoring = 'local'",
    }
    for change, sentence in refused.items():
        with pytest.raises(RecipeError, match=sentence):
            load_recipe("tiny", [*spans, change])
    assert not load_recipe("tiny", ["opd.objective=topk", "opd.sampled.spans=true"]).opd.by_spans
    from cohobate.models.loading import refuse_mismatch

    with pytest.raises(ModelError, match="does not give text back as it was"):
        refuse_other_text(tokenizer())  # which knows a and b alone
    teacher = load("world/teacher", device="cpu")
    refuse_other_text(teacher.tokenizer)
    with pytest.raises(ModelError, match=r"let it score their text .*opd\.sampled\.spans = true"):
        refuse_mismatch(teacher, model(tokenizer(), 0))
