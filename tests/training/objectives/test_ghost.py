"""Ghost-response policy optimisation: its gradient, its two contexts, and where ghosts come from."""

import math

import pytest
import torch

from cohobate.models.token_loss import Tokens
from cohobate.training.objectives.distributions import most_probable, most_probable_listed
from cohobate.training.objectives.ghost import GhostPolicy, align
from tests.support.tree import close, gradient, logits_of

LOGITS = logits_of(4, 6, seed=1)
OWN, GHOST = torch.tensor([0, 1, 2, 3]), torch.tensor([5, 1, -1, 0])


def on_policy(ids: torch.Tensor, **known: torch.Tensor) -> Tokens:
    sampled = known.get("student_ids", ids).clamp(min=0)
    return Tokens(ids, LOGITS.log_softmax(-1).gather(-1, sampled[:, None])[:, 0], **known)


def test_the_ghosts_token_rises_and_the_students_own_falls_by_as_much() -> None:
    expected = torch.zeros(4, 6)
    expected[0, 5], expected[0, 0] = -1, 1
    expected[3, 0], expected[3, 3] = -1, 1
    found = gradient(GhostPolicy(), LOGITS, on_policy(OWN, ghost_ids=GHOST))
    close(found, expected, 1e-12)
    assert not found[1:3].any()  # they agree; there is no ghost


def test_on_the_ghosts_own_text_the_roles_of_row_and_counterpart_are_exchanged() -> None:
    found = gradient(GhostPolicy(), LOGITS, on_policy(GHOST.clamp(min=0), student_ids=OWN))
    close(found[[0, 1, 3]], gradient(GhostPolicy(), LOGITS, on_policy(OWN, ghost_ids=GHOST))[[0, 1, 3]])
    absent = on_policy(GHOST.clamp(min=0), student_ids=torch.full((4,), -1))
    assert not gradient(GhostPolicy(entropy_bonus=1.0), LOGITS, absent).any()
    # Its tokens were sampled in another context: there is no mismatch to speak of.
    assert "mismatch_max" not in GhostPolicy()(LOGITS, absent)


def test_terms_are_the_reward_and_the_counts() -> None:
    terms = GhostPolicy()(LOGITS, on_policy(OWN, ghost_ids=GHOST))
    logprobs = LOGITS.log_softmax(-1)
    close(terms["reward"], logprobs[0, 5] - logprobs[0, 0] + logprobs[3, 0] - logprobs[3, 3])
    close(terms["loss"], -terms["reward"])
    assert terms["ghosts"] == 3
    assert terms["agreement"] == 1


@pytest.mark.parametrize(("sampler", "weight"), [(0.5, 1.0), (0.25, 2.0), (0.1, 2.0), (0.8, 0.625)])
def test_the_weight_is_the_ratio_up_to_the_cap(sampler: float, weight: float) -> None:
    logits = torch.tensor([[0.5, 0.3, 0.2]]).log()
    tokens = Tokens(torch.tensor([0]), torch.tensor([math.log(sampler)]), ghost_ids=torch.tensor([2]))
    close(GhostPolicy()(logits, tokens)["loss"], torch.tensor(-weight * math.log(0.2 / 0.5)))
    close(gradient(GhostPolicy(), logits, tokens), weight * torch.tensor([[1.0, 0.0, -1.0]]))


def test_its_optimum_is_a_point_mass_unless_entropy_is_rewarded() -> None:
    """Expected gradient e_y* - p, plus c times that of the entropy: least where p_y* = 1, or p ~ exp(e_y* / ...)."""

    def entropy_after(bonus: float) -> float:
        logits = torch.zeros(5, 5, dtype=torch.float64)  # row v: the gradient if v was sampled
        ids, ghosts = torch.arange(5), torch.full((5,), 2)
        for _ in range(400):
            p = logits[0].softmax(-1)
            tokens = Tokens(ids, logits[0].log_softmax(-1), ghost_ids=ghosts)
            logits = logits - 0.5 * (p @ gradient(GhostPolicy(entropy_bonus=bonus), logits, tokens))
        return float(torch.distributions.Categorical(logits=logits[0]).entropy())

    assert entropy_after(0.0) < 0.1
    assert entropy_after(1.0) > 0.8


# Where ghosts come from.


def test_the_teachers_ghost_is_its_most_probable_token_of_the_shared_vocabulary() -> None:
    teacher = torch.tensor([[0.0, 3.0, 1.0, 9.0], [2.0, 0.0, 1.0, 9.0]])  # the last row of the head is padding
    assert most_probable(lambda hidden: hidden, teacher, vocabulary=3).tolist() == [1, 0]
    assert most_probable(lambda hidden: hidden, torch.zeros(0, 4), vocabulary=3).tolist() == []


def test_the_ghost_of_a_top_k_is_its_most_probable_token_that_the_student_has() -> None:
    ids = torch.tensor([[7, 4, 9], [9, 2, -1], [-1, -1, -1]])
    logprobs = torch.tensor([[-2.0, -1.0, -3.0], [-0.1, -1.0, -math.inf], [-math.inf] * 3])
    assert most_probable_listed(ids, logprobs, vocabulary=9).tolist() == [4, 2, -1]


@pytest.mark.parametrize(
    ("response", "ghost", "ids"),
    [([5, 6], [7, 8, 9], [5, 6, -1]), ([5, 6, 7], [8], [5]), ([], [8], [-1]), ([5], [], [])],
)
def test_responses_are_aligned_place_by_place(response: list[int], ghost: list[int], ids: list[int]) -> None:
    found, logprobs = align(response, -torch.arange(1.0, len(response) + 1), ghost)
    assert found.tolist() == ids
    assert [float(x) for x in logprobs] == [-(t + 1.0) if v >= 0 else 0.0 for t, v in enumerate(ids)]
