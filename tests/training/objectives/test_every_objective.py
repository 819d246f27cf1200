"""The contract of all objectives: chunks, splits, padding, missing features, tokens that carry nothing, overflow."""

import math
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import pytest
import torch

from cohobate.models.token_loss import Terms, TokenLoss, Tokens, evaluate_in_chunks, merge, required
from cohobate.training.objectives.cross_entropy import cross_entropy
from cohobate.training.objectives.distributions import FullVocabulary, top_k_and_tail
from cohobate.training.objectives.exact import ExactReverseKL
from cohobate.training.objectives.ghost import GhostPolicy
from cohobate.training.objectives.gkd import GeneralisedJSD
from cohobate.training.objectives.grpo import GroupRelative
from cohobate.training.objectives.judge import JudgeReinforcement
from cohobate.training.objectives.length import LengthPriced
from cohobate.training.objectives.logit_kd import LogitDistillation
from cohobate.training.objectives.preference import weighted_likelihood
from cohobate.training.objectives.sampled import SampledReverseKL
from cohobate.training.objectives.topk import TopKKL
from tests.support.tree import gradient, logits_of

WIDTH, VOCABULARY, COUNT, K = 6, 11, 7, 3
TEACHER_HEAD = torch.nn.Linear(WIDTH, VOCABULARY, bias=False).requires_grad_(False)
FULL = FullVocabulary(TEACHER_HEAD)

# Each with the fields that it cannot do without.
OBJECTIVES: dict[str, tuple[TokenLoss, set[str]]] = {
    "sft": (cross_entropy, set()),
    "logit_kd": (LogitDistillation(FULL, 2.0, 0.6), {"teacher_hidden"}),
    "logit_kd top-k": (LogitDistillation(top_k_and_tail, 2.0, 0.6), {"teacher_top_ids", "teacher_top_logprobs"}),
    "exact": (ExactReverseKL(TEACHER_HEAD), {"teacher_hidden", "sampler_logprobs"}),
    "sampled": (SampledReverseKL(), {"teacher_logprobs", "sampler_logprobs"}),
    "sampled, all options": (
        SampledReverseKL(control_variate=True, precomputed=True),
        {"advantages", "teacher_logprobs", "sampler_logprobs", "teacher_top_ids", "teacher_top_logprobs"},
    ),
    "topk reverse": (TopKKL(), {"teacher_top_ids", "teacher_top_logprobs"}),
    "topk forward": (TopKKL("forward"), {"teacher_top_ids", "teacher_top_logprobs"}),
    "gkd": (GeneralisedJSD(FULL, 0.3), {"teacher_hidden"}),
    "gkd forward": (GeneralisedJSD(FULL, 0), {"teacher_hidden"}),
    "gkd top-k": (GeneralisedJSD(top_k_and_tail, 0.3), {"teacher_top_ids", "teacher_top_logprobs"}),
    "grpo": (GroupRelative(), {"advantages", "sampler_logprobs"}),
    "grpo and teacher": (GroupRelative(alpha=0.5), {"advantages", "sampler_logprobs", "teacher_logprobs"}),
    "ghost": (GhostPolicy(entropy_bonus=0.1), {"ghost_ids", "sampler_logprobs"}),
    "judge": (JudgeReinforcement(), {"advantages", "weights", "sampler_logprobs"}),
    "with a price on length": (
        LengthPriced(SampledReverseKL()),
        {"teacher_logprobs", "sampler_logprobs"},
    ),
    "preference": (weighted_likelihood, {"weights"}),
}
each = pytest.mark.parametrize(("objective", "needs"), OBJECTIVES.values(), ids=OBJECTIVES.keys())


def knowledge(count: int, seed: int = 0, vocabulary: int = VOCABULARY) -> Tokens:
    """All that may be known of `count` tokens on the student's own rollouts."""
    generator = torch.Generator().manual_seed(seed)

    def uniform() -> torch.Tensor:
        return torch.rand(count, generator=generator)

    hidden = torch.randn(count, WIDTH, generator=generator)
    top = TEACHER_HEAD(hidden).log_softmax(-1)[:, :vocabulary].topk(K)
    return Tokens(
        ids=torch.randint(vocabulary, (count,), generator=generator),
        sampler_logprobs=-3 * uniform(),
        old_logprobs=-3 * uniform(),
        teacher_logprobs=-3 * uniform(),
        teacher_hidden=hidden,
        advantages=2 * uniform() - 1,
        length_advantages=2 * uniform() - 1,
        weights=uniform(),
        ghost_ids=torch.randint(-1, vocabulary, (count,), generator=generator),
        teacher_top_ids=top.indices,
        teacher_top_logprobs=top.values,
    )


def only(tokens: Tokens, names: set[str]) -> Tokens:
    return Tokens(
        **{field.name: getattr(tokens, field.name) for field in fields(tokens) if field.name in {"ids", *names}}
    )


def head() -> torch.nn.Linear:
    torch.manual_seed(1)
    return torch.nn.Linear(WIDTH, VOCABULARY, bias=False)


def learn(
    objective: TokenLoss, hidden: torch.Tensor, evaluate: Callable[[torch.nn.Linear, torch.Tensor], Terms]
) -> tuple[Terms, list[torch.Tensor]]:
    states, layer = hidden.clone().requires_grad_(), head()
    terms = evaluate(layer, states)
    terms["loss"].backward()
    assert states.grad is not None and layer.weight.grad is not None
    return terms, [states.grad, layer.weight.grad]


def same(found: tuple[Terms, list[torch.Tensor]], expected: tuple[Terms, list[torch.Tensor]]) -> None:
    assert found[0].keys() == expected[0].keys()
    for name, value in expected[0].items():
        torch.testing.assert_close(found[0][name], value, rtol=1e-6, atol=1e-6, msg=name)
    for mine, theirs in zip(found[1], expected[1], strict=True):
        assert theirs.abs().max() > 1e-2
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-6)


@each
@pytest.mark.parametrize(("elements", "rows"), [(1, 1), (2 * VOCABULARY, 2), (3 * VOCABULARY + 5, 3)])
def test_chunks_change_neither_terms_nor_gradients(
    objective: TokenLoss, needs: set[str], elements: int, rows: int
) -> None:
    hidden, tokens = torch.randn(COUNT, WIDTH, generator=torch.Generator().manual_seed(2)), knowledge(COUNT)
    seen: list[int] = []

    def watched(logits: torch.Tensor, part: Tokens) -> Terms:
        seen.append(len(logits))
        return objective(logits, part)

    def chunked(layer: torch.nn.Linear, states: torch.Tensor) -> Terms:
        return evaluate_in_chunks(watched, layer, states, tokens, VOCABULARY, elements)

    whole = learn(objective, hidden, lambda layer, states: objective(layer(states), tokens))
    same(learn(objective, hidden, chunked), whole)
    assert max(seen) == rows


@each
def test_micro_batches_add_up_to_the_step(objective: TokenLoss, needs: set[str]) -> None:
    hidden, tokens = torch.randn(COUNT, WIDTH, generator=torch.Generator().manual_seed(2)), knowledge(COUNT)

    def split(layer: torch.nn.Linear, states: torch.Tensor) -> Terms:
        sums: Terms = {}
        for start, stop in ((0, 1), (1, 1), (1, 5), (5, COUNT)):
            sums = merge(sums, objective(layer(states[start:stop]), tokens.slice(start, stop)))
        return sums

    whole = learn(objective, hidden, lambda layer, states: objective(layer(states), tokens))
    same(learn(objective, hidden, split), whole)


@each
def test_no_tokens_give_no_loss_and_no_error(objective: TokenLoss, needs: set[str]) -> None:
    layer = head()
    terms = evaluate_in_chunks(objective, layer, torch.zeros(0, WIDTH), knowledge(0), VOCABULARY)
    terms["loss"].backward()
    assert all(value == 0 for value in terms.values())
    assert layer.weight.grad is not None and not layer.weight.grad.any()


@each
def test_what_is_missing_is_named_and_the_rest_is_not_needed(objective: TokenLoss, needs: set[str]) -> None:
    tokens, logits = knowledge(COUNT), logits_of(COUNT, VOCABULARY, seed=1).float()
    assert objective(logits, only(tokens, needs))["loss"].isfinite()
    for name in needs:
        with pytest.raises(ValueError, match=name):
            objective(logits, only(tokens, needs - {name}))


@each
def test_only_the_loss_carries_a_gradient(objective: TokenLoss, needs: set[str]) -> None:
    terms = objective(logits_of(COUNT, VOCABULARY, seed=1).float().requires_grad_(), knowledge(COUNT))
    assert [name for name, value in terms.items() if value.requires_grad] == ["loss"]


# Health of the policy.


ROLLOUTS = ["exact", "sampled", "topk reverse", "gkd", "grpo", "ghost", "judge"]


@pytest.mark.parametrize("name", ROLLOUTS)
def test_sampler_and_trainer_that_agree_have_no_mismatch(name: str) -> None:
    tokens, logits = knowledge(COUNT), logits_of(COUNT, VOCABULARY, seed=1).float()
    own = logits.log_softmax(-1)[torch.arange(COUNT), tokens.ids]
    terms = OBJECTIVES[name][0](logits, replace(tokens, sampler_logprobs=own, old_logprobs=None))
    assert terms["mismatch_k3"] == 0
    assert terms["mismatch_max"] == 0


@pytest.mark.parametrize("name", ROLLOUTS)
def test_mismatch_and_entropy_are_those_of_their_definitions(name: str) -> None:
    gaps = [0.5, -2.0, 0.0]  # log p - log mu
    logits = torch.zeros(3, VOCABULARY)
    own = torch.full((3,), -math.log(VOCABULARY))
    tokens = replace(knowledge(3), sampler_logprobs=own - torch.tensor(gaps), old_logprobs=None)
    terms = OBJECTIVES[name][0](logits, tokens)
    assert float(terms["mismatch_k3"]) == pytest.approx(sum(math.exp(gap) - 1 - gap for gap in gaps), rel=1e-5)
    assert float(terms["mismatch_max"]) == pytest.approx(2.0)
    assert float(terms["entropy"]) == pytest.approx(3 * math.log(VOCABULARY))


def test_after_an_update_the_mismatch_is_still_that_of_sampler_and_trainer() -> None:
    """p moves with the updates on one batch; sampler and trainer are compared as they were when it was sampled."""
    old = -3 * torch.rand(COUNT, generator=torch.Generator().manual_seed(3))
    tokens = replace(knowledge(COUNT), sampler_logprobs=old - 0.25, old_logprobs=old)
    terms = GroupRelative()(logits_of(COUNT, VOCABULARY, seed=1).float(), tokens)
    assert float(terms["mismatch_max"]) == pytest.approx(0.25, abs=1e-6)


# Traps of the numbers.


@each
@pytest.mark.parametrize("elements", [10**6, VOCABULARY], ids=["whole", "chunked"])
def test_logits_in_bfloat16_are_summed_in_float32(objective: TokenLoss, needs: set[str], elements: int) -> None:
    """A head in bfloat16 rounds logits; its log-softmax must not be rounded too."""
    tokens = knowledge(COUNT)
    hidden = torch.randn(COUNT, WIDTH, generator=torch.Generator().manual_seed(2)).bfloat16()
    layer = head().bfloat16()
    terms = evaluate_in_chunks(objective, layer, hidden, tokens, VOCABULARY, elements)
    expected = objective(layer(hidden).detach().double(), tokens)
    assert terms.keys() == expected.keys()
    for name, value in expected.items():
        assert terms[name].dtype == torch.float32
        torch.testing.assert_close(terms[name].double(), value.double(), rtol=1e-5, atol=1e-5)


@each
def test_the_rows_with_which_a_teacher_pads_its_vocabulary_do_not_count(objective: Any, needs: set[str]) -> None:
    """The student has two rows fewer than the teacher's head, whose padding may hold anything."""
    shared = VOCABULARY - 2
    tokens, logits = knowledge(COUNT, vocabulary=shared), logits_of(COUNT, shared, seed=1).float()
    padded = {"weight": TEACHER_HEAD.weight.clone()}
    found = objective(logits, tokens), gradient(objective, logits, tokens)
    with torch.no_grad():
        TEACHER_HEAD.weight[shared:] = 7.0
    try:
        again = objective(logits, tokens), gradient(objective, logits, tokens)
    finally:
        TEACHER_HEAD.load_state_dict(padded)
    assert all(again[0][name].equal(value) for name, value in found[0].items())
    assert again[1].equal(found[1])


def test_a_teacher_in_bfloat16_is_summed_in_float32() -> None:
    tokens, layer = knowledge(COUNT), head().bfloat16().requires_grad_(False)
    hidden = required(tokens.teacher_hidden, "teacher_hidden").bfloat16()
    _, found = FullVocabulary(layer)(
        logits_of(COUNT, VOCABULARY, seed=1).float(), replace(tokens, teacher_hidden=hidden)
    )
    torch.testing.assert_close(found, layer(hidden).float().log_softmax(-1))


EXCLUDED = torch.tensor([0.0, -math.inf, 1.0, -math.inf, 0.5])
FIVE = FullVocabulary(lambda hidden: hidden)
EXCLUDING: dict[str, TokenLoss] = {
    "exact": ExactReverseKL(FIVE.teacher_head),
    "sampled": SampledReverseKL(advantage_clip=None),
    "control variate": SampledReverseKL(control_variate=True),
    "topk reverse": TopKKL(),
    "topk forward": TopKKL("forward"),
    "logit_kd": LogitDistillation(FIVE, temperature=2.0),
    "logit_kd top-k": LogitDistillation(top_k_and_tail, temperature=2.0),
    **{f"gkd {beta}": GeneralisedJSD(FIVE, beta) for beta in (0, 0.5, 1)},
    **{f"gkd top-k {beta}": GeneralisedJSD(top_k_and_tail, beta) for beta in (0, 0.5, 1)},
    "grpo and teacher": GroupRelative(alpha=1.0),
    "ghost": GhostPolicy(entropy_bonus=0.5),
}


@pytest.mark.parametrize("both", [False, True], ids=["by the teacher", "by both"])
@pytest.mark.parametrize("objective", EXCLUDING.values(), ids=EXCLUDING.keys())
def test_tokens_of_probability_zero_give_finite_losses_and_gradients(objective: TokenLoss, both: bool) -> None:
    """Some tokens are excluded with logits of -inf, the sampled one among them where the student allows it."""
    teacher = EXCLUDED.expand(2, 5)
    logits = teacher + torch.tensor([0.3, 0.0, 0.0, 0.0, -1.0]) if both else logits_of(2, 5, seed=1).float()
    ids = torch.tensor([0, 4] if both else [1, 3])
    own, theirs = logits.log_softmax(-1), teacher.log_softmax(-1)
    top = theirs.topk(4)
    tokens = Tokens(
        ids,
        sampler_logprobs=own[[0, 1], ids],
        teacher_logprobs=theirs[[0, 1], ids],
        teacher_hidden=teacher,
        advantages=torch.ones(2),
        ghost_ids=torch.tensor([2, 0]),
        teacher_top_ids=top.indices,
        teacher_top_logprobs=top.values,
    )
    assert top.values.isneginf().any()
    terms = objective(logits, tokens)
    assert all(value.isfinite() for value in terms.values())
    assert gradient(objective, logits, tokens).isfinite().all()


@pytest.mark.parametrize("sign", [1, -1], ids=["grown", "shrunk"])
@pytest.mark.parametrize("advantage", [0.0, -1.0, 1.0])
def test_a_ratio_beyond_all_floats_gives_finite_losses_and_gradients(advantage: float, sign: int) -> None:
    """exp(100) is infinite in float32, and 0 times that is not a number."""
    logits = torch.tensor([[0.0, -30.0]]) if sign > 0 else torch.tensor([[-200.0, 0.0]])
    tokens = Tokens(
        torch.tensor([0]),
        sampler_logprobs=torch.tensor([-100.0]),
        old_logprobs=torch.tensor([-100.0]),
        teacher_logprobs=torch.tensor([-1.0]),
        advantages=torch.tensor([advantage]),
        weights=torch.tensor([0.0]),
        ghost_ids=torch.tensor([1]),
    )
    objectives: list[TokenLoss] = [
        *(GroupRelative(), GhostPolicy(math.inf), JudgeReinforcement(math.inf)),
        *(SampledReverseKL(math.inf), SampledReverseKL(math.inf, precomputed=True)),
    ]
    for objective in objectives:
        for known in (tokens, replace(tokens, old_logprobs=None)):
            assert all(value.isfinite() for value in objective(logits, known).values())
        assert gradient(objective, logits, tokens).isfinite().all()
