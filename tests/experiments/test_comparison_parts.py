"""Plans of a comparison, and what is read off its curves: against hand-made curves and another library's numbers."""

import math
from pathlib import Path
from typing import Any

import pytest

from cohobate.config import Recipe
from cohobate.config.load import load_recipe
from cohobate.core.errors import RecipeError
from cohobate.core.statistics import over_seeds, welch
from cohobate.experiments.comparison.cost_to_reach import Reached, cost_to_reach, ratio, reach, typical
from cohobate.experiments.comparison.plan import chosen_methods, compare_section, from_base, from_start, plan, reference

# scipy.stats.ttest_ind(A, B, equal_var=False): difference -5.4133, 4.14 degrees of freedom; with 4 of them the half
# width is scipy.stats.t.ppf(0.975, 4) = 2.7764 times the standard error 3.0918.
A, B = [27.5, 21.0, 19.0, 23.6, 17.0], [30.1, 22.1, 28.9]


def points(*accuracies: float, price: int = 10) -> list[dict[str, Any]]:
    """A curve that pays `price` from each point to the next."""
    return [{"accuracy": share, "flops": place * price} for place, share in enumerate(accuracies)]


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
    found = reach([points(0.0, 1.0, price=price) for price in (10, 20, 40)], 1.0, "flops")
    mean = typical(found)
    assert mean is not None and mean["mean"] == pytest.approx(20)
    # Half width in logs: t.ppf(0.975, 2) * log(2) / sqrt(3).
    assert mean["low"] == pytest.approx(20 / math.exp(4.3027 * math.log(2) / math.sqrt(3)), rel=1e-3)


def test_a_seed_that_never_arrives_leaves_only_a_bound() -> None:
    ours = Reached([None, 40.0], [80.0, 50.0])
    theirs = Reached([10.0, 10.0], [90.0, 90.0])
    assert typical(ours) is None
    found = ratio(ours, theirs)
    assert found is not None and found["bound"] and found["low"] is None
    assert found["mean"] == pytest.approx(math.sqrt(80 * 40) / 10)
    assert ratio(theirs, ours) is None


def test_what_costs_nothing_has_no_ratio() -> None:
    free = Reached([0.0, 0.0], [0.0, 0.0])
    assert ratio(free, Reached([1.0, 1.0], [1.0, 1.0])) is None and ratio(Reached([1.0], [1.0]), free) is None


def test_the_interval_over_seeds_is_students() -> None:
    # scipy.stats.t.interval(0.95, 2, loc=mean, scale=sem)
    assert over_seeds([0.8, 0.82, 0.87]) == pytest.approx((0.83, 0.740433, 0.919567), abs=1e-4)


def test_the_interval_of_a_difference_is_welchs() -> None:
    difference, low, high = welch(A, B)
    assert difference == pytest.approx(-5.41333, abs=1e-4)
    assert high - difference == pytest.approx(8.5840, abs=2e-3) == difference - low


def test_single_runs_and_equal_runs_have_their_limits() -> None:
    assert welch([1.0], [2.0, 3.0]) == (-1.5, -math.inf, math.inf)
    assert welch([1.0, 1.0], [3.0, 3.0]) == (-2.0, -2.0, -2.0)


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
    compare = compare_section(load_recipe("tiny", ["compare.only=['opd', 'lora_opd']"]))
    assert list(chosen_methods(compare)) == ["opd", "lora_sft", "lora_opd"]
    assert (from_start(compare), from_base(compare)) == (["opd"], ["lora_sft", "lora_opd"])
    assert reference(compare_section(shipped)) == "opd"


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
