"""The ledger's formulae against torch's own count of what a model computes.

torch counts the whole square of attention, n * n pairs for n tokens, and the ledger the causal half,
n * (n + 1) / 2: the difference is n * (n - 1) / 2 pairs.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode
from transformers import LlamaConfig, Qwen3Config, Qwen3ForCausalLM

from cohobate.config import Training
from cohobate.core.progress import Bar
from cohobate.models import logprobs
from cohobate.models.loading import LoadedModel, load, model_path
from cohobate.models.model_cost import cost_of, cost_of_folder
from cohobate.models.sampling import sampler
from cohobate.models.sequence import TrainingSequence
from cohobate.store import compute_ledger
from cohobate.store.compute_ledger import PASSES, LedgerEntry, ModelCost
from cohobate.training.loop import Run
from cohobate.training.objectives.cross_entropy import cross_entropy
from cohobate.training.trainee import Trainee
from cohobate.training.types import Source, StepBatch

SHAPES = {
    "tied, grouped heads": {"num_key_value_heads": 2, "tie_word_embeddings": True},
    "untied, a head each": {"num_key_value_heads": 4, "tie_word_embeddings": False},
    "untied, one shared head": {"num_key_value_heads": 1, "tie_word_embeddings": False},
}


@pytest.fixture(params=SHAPES.values(), ids=list(SHAPES))
def model(request: pytest.FixtureRequest) -> Any:
    """A random model with four heads of a size that is not width / heads; its attention is plain products."""
    config = Qwen3Config(
        vocab_size=50,
        hidden_size=40,
        intermediate_size=56,
        num_hidden_layers=3,
        num_attention_heads=4,
        head_dim=24,
        max_position_embeddings=64,
        attn_implementation="eager",
        **request.param,
    )
    torch.manual_seed(0)
    return Qwen3ForCausalLM(config).eval()


def counted(work: Callable[[], object]) -> int:
    with FlopCounterMode(display=False) as counter:
        work()
    return int(counter.get_total_flops())


def upper_half(*lengths: int) -> int:
    """(query, key) pairs of a whole square that causal attention does not need."""
    return sum(n * (n - 1) // 2 for n in lengths)


def rows(prompt: int, response: int, count: int) -> list[TrainingSequence]:
    return [TrainingSequence([(7 * i + t) % 50 for t in range(prompt + response)], prompt) for i in range(count)]


def test_parameters_are_those_of_the_model(model: Any) -> None:
    assert cost_of(model.config).params == sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize(("count", "length"), [(1, 1), (1, 17), (3, 9)])
def test_a_forward_pass_costs_what_torch_counts(model: Any, count: int, length: int) -> None:
    cost = cost_of(model.config)
    ids = torch.zeros(count, length, dtype=torch.long)
    found = counted(lambda: model(input_ids=ids, use_cache=False))
    exact = cost.forward([length] * count, count * length)
    assert found == exact + cost.pair * upper_half(*[length] * count)


def unread_mlp(model: Any, positions: int) -> int:
    """The FLOPs of the last MLP at so many positions, which we leave out where nobody reads them.

    The ledger counts the whole model, as everybody does.
    """
    return int(2 * 3 * model.config.hidden_size * model.config.intermediate_size * positions)


def test_generation_costs_what_torch_counts(model: Any) -> None:
    """All but the last token of a prompt is read at once, then a token a row and step, in blocks of the cache."""
    cost, prompt, response, count = cost_of(model.config), 9, 6, 8
    sampler.way_in_words(model)  # tried once per model, which is not counted
    with FlopCounterMode(display=False) as counter:
        sampler.sample(
            model,
            [row.ids for row in rows(prompt, 0, count)],
            sampler.Decoding(response, temperature=0),
            None,
            eos_ids=[],
            pad_id=0,
        )
    products = {str(name): int(flops) for name, flops in counter.get_flop_counts()["Global"].items()}
    attention = products.pop("aten.bmm")
    pairs = count * sum(range(1, prompt + response))
    exact = cost.respond([prompt] * count, [response] * count)
    assert sum(products.values()) == exact - cost.pair * pairs - unread_mlp(model, count * (prompt - 1))
    assert cost.pair * pairs <= attention


def test_scoring_costs_what_torch_counts(model: Any) -> None:
    cost, prompt, response, count = cost_of(model.config), 9, 6, 3
    found = counted(lambda: logprobs.score(model, rows(prompt, response, count), 1000, 0))
    exact = cost.respond([prompt] * count, [response] * count)
    unread = unread_mlp(model, count * (prompt - 1))
    assert found == exact + cost.pair * upper_half(*[prompt + response - 1] * count) - unread


class Given(Source):
    """A source of the same rows at every step."""

    def __init__(self, rows: list[TrainingSequence]) -> None:
        self.rows = rows

    def batch(self, step: int) -> StepBatch:
        return StepBatch(self.rows)


@pytest.fixture
def tokenizer() -> Any:
    return load("world/base", device="cpu").tokenizer


@pytest.mark.trains
def test_an_update_costs_what_torch_counts_and_the_metrics_say(model: Any, tokenizer: Any, tmp_path: Path) -> None:
    cost, prompt, response, count = cost_of(model.config), 9, 6, 3
    config = Training(steps=1, warmup=0, tokens_per_batch=1000)
    student = LoadedModel(model, tokenizer, tmp_path, ())
    source = Given(rows(prompt, response, count))
    trainee = Trainee(student, config, "base")
    run = Run(trainee, source, cross_entropy, tmp_path, "sft", lambda *_: None, Bar("sft", 1, "steps"))
    metrics: list[dict[str, Any]] = []
    found = counted(lambda: metrics.extend(run.train().metrics))
    exact = PASSES["update"] * cost.respond([prompt] * count, [response] * count)
    unread = unread_mlp(model, count * (prompt - 1))
    assert found == exact + 3 * (cost.pair * upper_half(*[prompt + response - 1] * count) - unread)
    assert metrics[0]["student_flops"] == exact
    assert metrics[0]["teacher_flops"] == 0


def test_a_longer_context_costs_more_in_attention_alone() -> None:
    cost = ModelCost(params=0, linear=10, pair=3, head=100)
    assert cost.forward([1], 0) == 10 + 3
    assert cost.forward([4], 1) == 4 * 10 + (1 + 2 + 3 + 4) * 3 + 100
    assert cost.forward([2, 2], 1) == 4 * 10 + 2 * (1 + 2) * 3 + 100


def configs() -> Iterator[Any]:
    common = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4}
    yield LlamaConfig(vocab_size=90, **common)
    yield LlamaConfig(vocab_size=90, num_key_value_heads=2, tie_word_embeddings=True, **common)
    yield Qwen3Config(vocab_size=90, num_key_value_heads=2, **common)


@pytest.mark.parametrize("config", configs(), ids=["llama", "llama grouped tied", "qwen3"])
def test_a_folder_costs_what_its_model_does(config: Any, tmp_path: Path) -> None:
    config.save_pretrained(tmp_path)
    assert cost_of_folder(tmp_path) == cost_of(config)


@pytest.mark.parametrize("name", ["world/base", "world/teacher"])
def test_a_shipped_folder_has_the_parameters_of_its_weights(name: str) -> None:
    model = load(name, device="cpu").model
    assert cost_of_folder(model_path(name)).params == sum(p.numel() for p in model.parameters())


COST = ModelCost(params=7, linear=11, pair=5, head=13)
lengths = st.lists(st.tuples(st.integers(1, 30), st.integers(1, 30)), min_size=1, max_size=6)
works = st.sampled_from(["rollout", "scoring", "update"])
entries = st.builds(
    lambda work, pairs, paid: compute_ledger.entry(
        "opd", "student", work, COST, [p for p, _ in pairs], [r for _, r in pairs], paid
    ),
    works,
    lengths,
    st.sampled_from(["here", "earlier"]),
)


@given(works, lengths, lengths)
def test_the_entries_of_two_batches_add_up_to_that_of_both(
    work: compute_ledger.Work, first: list[tuple[int, int]], second: list[tuple[int, int]]
) -> None:
    def of(pairs: list[tuple[int, int]]) -> LedgerEntry:
        return compute_ledger.entry("opd", "student", work, COST, [p for p, _ in pairs], [r for _, r in pairs])

    assert compute_ledger.total([of(first), of(second)]) == [of(first + second)]


@given(st.lists(entries, max_size=8), st.lists(entries, max_size=8))
def test_a_total_of_totals_is_the_total(first: list[LedgerEntry], second: list[LedgerEntry]) -> None:
    whole = compute_ledger.total([*first, *second])
    assert compute_ledger.total([*compute_ledger.total(first), *compute_ledger.total(second)]) == whole
    for name in ("sequences", "prompt_tokens", "tokens", "flops"):
        assert sum(getattr(e, name) for e in whole) == sum(getattr(e, name) for e in [*first, *second])


def test_a_total_keeps_stage_model_work_and_payer_apart_in_order() -> None:
    keys: list[tuple[str, str, compute_ledger.Work, compute_ledger.Paid]] = [
        ("triples", "teacher", "generation", "earlier"),
        ("opd", "student", "rollout", "here"),
        ("opd", "teacher", "scoring", "here"),
        ("opd", "teacher", "scoring", "earlier"),
        ("sft", "student", "update", "here"),
    ]
    made = [compute_ledger.entry(stage, model, work, COST, [3], [2], paid) for stage, model, work, paid in keys]
    found = compute_ledger.total([*made, *reversed(made)])
    assert [(e.stage, e.model, e.work, e.paid) for e in found] == keys
    assert {e.sequences for e in found} == {2}


def test_an_entry_counts_an_update_as_three_forward_passes() -> None:
    update = compute_ledger.entry("sft", "student", "update", COST, [3, 5], [2, 4])
    forward = compute_ledger.entry("sft", "student", "scoring", COST, [3, 5], [2, 4])
    assert update.flops == 3 * forward.flops == 3 * COST.forward([4, 8], 6)
    assert (update.sequences, update.prompt_tokens, update.tokens) == (2, 8, 6)
