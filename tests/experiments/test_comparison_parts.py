"""Plans of a comparison, and what is read off its curves: against hand-made curves and another library's numbers."""

import math
from pathlib import Path

import pytest

from cohobate.config import Compare, Recipe
from cohobate.config.load import load_recipe
from cohobate.core.errors import RecipeError
from cohobate.experiments.comparison.cost_to_reach import (
    SeedCosts,
    cost_ratio,
    cost_to_reach,
    geometric_mean,
    seed_costs,
)
from cohobate.experiments.comparison.facts import CurvePoint
from cohobate.experiments.comparison.plan import chosen_methods, from_base, from_start, plan, reference


def points(*accuracies: float, price: int = 10) -> list[CurvePoint]:
    """A curve that pays `price` FLOPs from each point to the next."""
    zero: CurvePoint = {
        "step": 0,
        "teacher_flops": 0,
        "student_flops": 0,
        "flops": 0,
        "decoding": "sampled",
        "n": 1,
        "accuracy": 0,
        "low": 0,
        "high": 1,
    }
    return [{**zero, "accuracy": accuracy, "flops": place * price} for place, accuracy in enumerate(accuracies)]


def test_a_cost_is_read_off_the_line_between_two_points() -> None:
    curve = points(0.6, 0.7, 0.9)
    assert cost_to_reach(curve, 0.65, "flops") == pytest.approx(5)
    assert cost_to_reach(curve, 0.7, "flops") == pytest.approx(10)
    assert cost_to_reach(curve, 0.75, "flops") == pytest.approx(12.5)
    assert cost_to_reach(curve, 0.95, "flops") is None


def test_where_a_curve_falls_again_its_first_crossing_counts() -> None:
    assert cost_to_reach(points(0.6, 0.8, 0.7, 0.9), 0.7, "flops") == pytest.approx(5)


def test_what_the_start_has_already_costs_nothing() -> None:
    assert cost_to_reach(points(0.6, 0.7), 0.5, "flops") == 0


def test_a_typical_cost_is_the_geometric_mean_of_the_seeds() -> None:
    costs = seed_costs([points(0.0, 1.0, price=price) for price in (10, 20, 40)], 1.0, "flops")
    mean = geometric_mean(costs)
    assert mean is not None and mean.mean == pytest.approx(20)
    # Half width in logs: t.ppf(0.975, 2) * log(2) / sqrt(3).
    assert mean.low == pytest.approx(20 / math.exp(4.3027 * math.log(2) / math.sqrt(3)), rel=1e-3)


def test_a_seed_that_never_arrives_leaves_only_a_bound() -> None:
    ours = SeedCosts([None, 40.0], [80.0, 50.0])
    theirs = SeedCosts([10.0, 10.0], [90.0, 90.0])
    assert geometric_mean(ours) is None
    ratio = cost_ratio(ours, theirs)
    assert ratio is not None and ratio.bound and not ratio.times.bounded
    assert ratio.times.mean == pytest.approx(math.sqrt(80 * 40) / 10)
    assert cost_ratio(theirs, ours) is None


def test_what_costs_nothing_has_no_ratio() -> None:
    free = SeedCosts([0.0, 0.0], [0.0, 0.0])
    assert (
        cost_ratio(free, SeedCosts([1.0, 1.0], [1.0, 1.0])) is None
        and cost_ratio(SeedCosts([1.0], [1.0]), free) is None
    )


@pytest.fixture(scope="module")
def shipped() -> Recipe:
    return load_recipe("compare")


def test_each_student_is_a_recipe_of_its_own(shipped: Recipe) -> None:
    runs = {(run.method, run.seed): run for run in plan(shipped)}
    sampled, fresh = runs["opd_sampled", 2].recipe, runs["sft_fresh", 1].recipe
    assert (sampled.opd.objective, sampled.opd.seed, sampled.opd.steps) == ("sampled", 2, shipped.opd.steps)
    assert (fresh.triples.split, fresh.sft.seed, fresh.opd.seed) == ("fresh", 1, 0)
    assert sampled.sft == shipped.sft and sampled.compare is None


def test_a_student_comes_after_the_one_that_it_begins_with(tiny: Recipe) -> None:
    names = [(run.method, run.seed) for run in plan(tiny)]
    later = [run for run in plan(tiny) if run.start not in ("start", "base")]
    assert later
    for run in later:
        assert names.index((run.start, run.seed)) < names.index((run.method, run.seed))


def test_a_chosen_method_brings_what_it_begins_with(shipped: Recipe) -> None:
    compare = load_recipe("tiny", ["compare.only=['opd', 'lora_opd']"]).section(Compare)
    assert list(chosen_methods(compare)) == ["opd", "lora_sft", "lora_opd"]
    assert (from_start(compare), from_base(compare)) == (["opd"], ["lora_sft", "lora_opd"])
    assert reference(shipped.section(Compare)) == "opd"


@pytest.mark.parametrize(
    ("override", "parts"),
    [
        ("compare.only=['opdd']", ["only", "no method 'opdd'", "opd_sampled"]),
        ("compare.reference=ppo", ["reference", "no method 'ppo'"]),
        ("compare.methods.a={start='b'}", ["methods.a.start", "no method 'b'"]),
        ("compare.methods.a={start='base'}", ["methods.a", "stage must be sft"]),
        ("compare.methods.a={start='a'}", ["methods.a", "begins with itself"]),
        ("compare.methods.a-b={}", ["'a-b' cannot name a method"]),
        ("compare.methods.grpo.opd.group=1", ["compare.methods.grpo", "set group to 2 or more"]),
        ("compare.methods.opd.opd={stepz=1}", ["compare.methods.opd", "opd.stepz", "did you mean 'opd.steps'"]),
        ("compare.seeds=0", ["'compare.seeds' is 0"]),
        ("opd.evaluate_questions=0", ["evaluate_questions is 0 for the method opd", "set it to 1 or more"]),
        ("opd.evaluate_temperature=0.5", ["evaluate_temperature is 0.5 for the method opd", "[sft] and [opd]"]),
    ],
)
def test_a_wrong_comparison_is_one_sentence(override: str, parts: list[str]) -> None:
    with pytest.raises(RecipeError) as caught:
        plan(load_recipe("compare", [override]))
    assert "\n" not in str(caught.value)
    for part in parts:
        assert part in str(caught.value)


def test_a_recipe_without_methods_says_what_to_add(tmp_path: Path) -> None:
    (tmp_path / "bare.toml").write_text("")
    with pytest.raises(RecipeError, match=r"no section \[compare\]"):
        plan(load_recipe(str(tmp_path / "bare.toml")))
