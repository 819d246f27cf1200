"""Logits by the model's own rule, against plain forward passes of transformers: families of the field, and others."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.modeling_outputs import CausalLMOutputWithPast

from cohobate.core.errors import ModelError
from cohobate.models.batching import batches, can_share
from cohobate.models.logprobs import score
from cohobate.models.output_layer import OutputLayer
from cohobate.models.sampling.sampler import Decoding, sample, uniforms
from cohobate.models.token_loss import TokenLoss, required
from cohobate.training.learner import Learner
from cohobate.training.objectives.cross_entropy import cross_entropy
from cohobate.training.objectives.distributions import FullVocabulary
from cohobate.training.objectives.exact import ExactReverseKL
from tests.support.families import FAMILIES, SIZE, family, plain_logprobs, random_rows

ROWS = random_rows([(5, 9), (11, 3), (2, 20), (5, 1)])
LIMIT = 1e-4
Change = Callable[[Any, torch.Tensor, Callable[[torch.Tensor], torch.Tensor]], torch.Tensor]


class Unheard(LlamaForCausalLM):  # type: ignore[misc]
    """A family of nobody: `rule` makes logits of the last hidden states and of the head."""

    rule: ClassVar[Any]

    def forward(self, input_ids: torch.Tensor, **kwargs: Any) -> CausalLMOutputWithPast:
        outputs = self.model(input_ids=input_ids, **kwargs)
        logits = self.rule(outputs.last_hidden_state, self.lm_head)
        return CausalLMOutputWithPast(logits=logits, past_key_values=outputs.past_key_values)


RULES: dict[str, Change] = {
    "states are divided": lambda self, states, head: head(states / 3),
    "states pass a norm": lambda self, states, head: head(self.extra(states)),
    "logits get a bias": lambda self, states, head: head(states) + self.bias,
    "logits are capped": lambda self, states, head: 40 * torch.tanh(head(states) / 40),
    "the head is the embedding": lambda self, states, head: states @ self.model.embed_tokens.weight.T,
    "the head is used twice": lambda self, states, head: head(states) + head(states.roll(1, -1)),
}


def unheard(rule: str) -> Any:
    torch.manual_seed(0)
    model = Unheard(LlamaConfig(**SIZE)).eval()
    model.extra, model.bias = nn.LayerNorm(48), nn.Parameter(torch.randn(96))
    nn.init.normal_(model.extra.weight)
    type(model).rule = RULES[rule]
    return model


MODELS: dict[str, Callable[[], Any]] = {
    **{name: lambda name=name: family(name) for name in FAMILIES},  # type: ignore[misc]
    **{name: lambda name=name: unheard(name) for name in RULES},  # type: ignore[misc]
}
ALL = pytest.mark.parametrize("make", MODELS.values(), ids=MODELS.keys())


@ALL
def test_scores_are_those_of_the_plain_forward_pass(make: Callable[[], Any]) -> None:
    model = make()
    scores = score(model, ROWS, 40, 0)
    assert len(scores) == len(ROWS)
    layer = OutputLayer(model)
    assert layer.vocabulary == 96
    for row, found in zip(ROWS, scores, strict=True):
        with torch.no_grad():
            expected = plain_logprobs(model, row)
            assert found.hidden is not None
            whole = layer(found.hidden).log_softmax(-1)
        chosen = expected.gather(-1, torch.tensor(row.response)[:, None])[:, 0]
        torch.testing.assert_close(found.logprobs, chosen, rtol=0, atol=LIMIT)
        torch.testing.assert_close(whole, expected, rtol=0, atol=LIMIT)


@pytest.mark.parametrize("name", FAMILIES)
def test_the_sampler_gives_the_log_probabilities_of_the_plain_forward_pass(name: str) -> None:
    model = family(name)
    prompts = [list(row.ids[: row.context]) for row in ROWS]
    noise = uniforms(1, [str(i) for i in range(len(prompts))], 12)
    drawn = sample(model, prompts, Decoding(12), noise, eos_ids=(), pad_id=0)
    assert [len(each.response_ids) for each in drawn] == [12] * len(ROWS)
    for prompt, found in zip(prompts, drawn, strict=True):
        row = type(ROWS[0])([*prompt, *found.response_ids], len(prompt))
        with torch.no_grad():
            expected = plain_logprobs(model, row).gather(-1, torch.tensor(found.response_ids)[:, None])[:, 0]
        assert found.logprobs == pytest.approx(expected.tolist(), abs=LIMIT)


def gradients(model: Any, loss: torch.Tensor) -> dict[str, torch.Tensor]:
    model.zero_grad()
    loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def by_autograd(model: Any, objective: TokenLoss, rows: list[Any]) -> dict[str, torch.Tensor]:
    """The gradient through one plain forward pass for each row."""
    total = torch.zeros(())
    for row in rows:
        logits = model(input_ids=torch.tensor([list(row.ids)]), use_cache=False).logits[0, row.context - 1 : -1]
        [batch] = batches([row], 1000, 0, "cpu")
        total = total + objective(logits.float(), batch.tokens)["loss"]
    return gradients(model, total)


@pytest.mark.parametrize("elements", [12_000_000, 96 * 5])
@ALL
def test_gradients_are_those_of_autograd_through_the_plain_forward_pass(
    make: Callable[[], Any], elements: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make()
    monkeypatch.setattr("cohobate.models.token_loss.evaluate_in_chunks.__defaults__", (elements,))
    expected = by_autograd(model, cross_entropy, ROWS)
    learner = Learner(model)
    total = torch.zeros(())
    for batch in batches(ROWS, 40, 0, "cpu", share=can_share(model)):
        total = total + learner(batch, cross_entropy)["loss"]
    found = gradients(model, total)
    assert found.keys() == expected.keys()
    largest = max(float(value.abs().max()) for value in expected.values())
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-3, atol=1e-4 * largest, msg=name)


@pytest.mark.parametrize("name", [name for name in FAMILIES if name != "llama"])
def test_a_teacher_is_distilled_with_its_own_logits(name: str) -> None:
    """The exact reverse KL of a Llama against the teacher, with whole distributions of plain forward passes."""
    student, teacher = family("llama", seed=1), family(name)
    scores = score(teacher, ROWS, 60, 0)
    rows = [
        row.with_features(teacher_hidden=required(item.hidden, "hidden"), sampler_logprobs=item.logprobs)
        for row, item in zip(ROWS, scores, strict=True)
    ]
    learner, objective = Learner(student), ExactReverseKL(OutputLayer(teacher))
    with torch.no_grad():
        found = sum(float(learner(batch, objective)["loss"]) for batch in batches(rows, 60, 0, "cpu"))
        pairs = [(plain_logprobs(student, row), plain_logprobs(teacher, row)) for row in rows]
    expected = sum(float((p.exp() * (p - q)).sum()) for p, q in pairs)
    assert found == pytest.approx(expected, rel=1e-4)


def test_a_view_of_the_whole_vocabulary_is_zero_against_itself() -> None:
    model = family("gemma2")
    layer, hidden = OutputLayer(model), torch.randn(3, 48)
    tokens = SimpleNamespace(teacher_hidden=hidden)
    ours, theirs = FullVocabulary(layer)(layer(hidden), tokens)  # type: ignore[arg-type]
    assert torch.equal(ours, theirs)


@pytest.mark.parametrize(("name", "linear", "whole"), [("llama", True, True), ("gemma2", True, False)])
def test_the_head_alone_is_called_where_that_is_all(name: str, linear: bool, whole: bool) -> None:
    layer = OutputLayer(family(name))
    assert (layer.linear is not None, layer.is_linear) == (linear, whole)


def test_a_scale_of_one_and_a_cap_that_is_none_are_no_rule() -> None:
    assert OutputLayer(family("granite", logits_scaling=1.0)).is_linear
    assert OutputLayer(family("gemma2", final_logit_softcapping=None)).is_linear


def test_weights_are_those_of_the_moment() -> None:
    model = family("cohere")
    layer, hidden = OutputLayer(model), torch.randn(2, 48)
    before = layer(hidden)
    with torch.no_grad():
        model.lm_head.weight.mul_(2)
    torch.testing.assert_close(layer(hidden), 2 * before)


def test_a_half_precision_model_rounds_as_its_forward_pass_does() -> None:
    model = family("gemma2").bfloat16()
    ids = torch.tensor([list(ROWS[2].ids)])
    with torch.no_grad():
        states = model.get_decoder()(input_ids=ids, use_cache=False).last_hidden_state[0]
        assert torch.equal(OutputLayer(model)(states), model(input_ids=ids, use_cache=False).logits[0])


def test_a_decoder_that_the_class_does_not_name_is_found() -> None:
    """Llama 4 gives itself for its decoder, ModernBERT its output layer."""
    model, hidden = family("llama"), torch.randn(2, 48)
    logits = OutputLayer(model)(hidden)
    for other in (model, model.lm_head):
        model.get_decoder = lambda other=other: other
        assert torch.equal(OutputLayer(model)(hidden), logits)


def test_a_model_without_a_decoder_of_its_own_is_refused() -> None:
    class Alone(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.lm_head = torch.nn.Embedding(9, 4), torch.nn.Linear(4, 9)
            self.dtype = torch.float32

        def get_decoder(self) -> Any:
            return self

        def get_input_embeddings(self) -> Any:
            return self.table

        def get_output_embeddings(self) -> Any:
            return self.lm_head

    with pytest.raises(ModelError, match="does not tell its decoder from its output layer"):
        OutputLayer(Alone())
