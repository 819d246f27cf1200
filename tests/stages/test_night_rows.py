"""The rows of a night and the student that it begins from, of artifacts whose rows are known."""

from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path

import polars as pl
import pytest

from cohobate.config import Recipe
from cohobate.config.load import changed
from cohobate.models.loading import model_fingerprint
from cohobate.stages import night
from cohobate.store import promotion
from cohobate.store.artifacts import Artifact, Outcome, Store
from tests.support import made_triples
from tests.support.artifacts import make
from tests.support.made_triples import Row, sample

RIGHT, WRONG = "correct", "incorrect"


def rows(verdicts: Mapping[str, Sequence[str]]) -> list[Row]:
    return [
        sample(question, f"because {n}\nAnswer: {n}", index=n, verdict=verdict, split="train")
        for question, judged in verdicts.items()
        for n, verdict in enumerate(judged)
    ]


def questions(data: Path, fresh: int) -> Artifact:
    return made_triples.questions(data, [(f"fresh {n}", "fresh") for n in range(fresh)])


def promoted(data: Path, learned: list[Row], fresh: int = 4) -> night.PromotedRun:
    student = make("student", "opd")
    return night.PromotedRun({}, student, questions(data, fresh), made_triples.triples(data, learned), None)


@pytest.mark.parametrize(
    ("objective", "select"), [*product(["dpo", "simpo", "kto"], ["correct", "all"]), ("dpo", "first_correct")]
)
def test_right_and_wrong_responses_of_a_preference_stay_together(
    data: Path, tiny: Recipe, objective: str, select: str
) -> None:
    both, learnable = (RIGHT, RIGHT, WRONG), {"new 0", "new 1"}
    old = {f"old {n}": both for n in range(8)}
    only_right = {"new 2": (RIGHT, RIGHT)}
    now = {**old, **dict.fromkeys(sorted(learnable), both), **only_right, "new 3": ("undecided",) * 3}
    sections = {"sft": {"objective": objective, "select": select}, "triples": {"samples": 3}}
    recipe = changed(tiny, sections, "a preference")
    triples = made_triples.triples(data, rows(now))
    made = night.write(recipe, promoted(data, rows(old)), questions(data, 4), triples)
    if objective == "kto":  # learns from a lone response too
        learnable |= set(only_right)
    written = pl.read_parquet(made.path / "triples.parquet").join(
        pl.read_parquet(made.path / "verdicts.parquet").select("sample_id", "verdict"), on="sample_id"
    )
    judged = {key[0]: sorted(part["verdict"]) for key, part in written.group_by("question")}
    assert learnable <= judged.keys() and len(judged) == 2 * len(learnable) and judged.keys() - learnable <= old.keys()
    assert judged == {name: sorted(now[name]) for name in judged}
    parts = pl.read_parquet(made.path / "rows.parquet").filter(kind="sample", part="new")
    assert set(parts["id"]) == {row["sample_id"] for row in rows({name: now[name] for name in learnable})}
    assert made.manifest.named_metrics["samples_new"] == sum(len(now[name]) for name in learnable)


def test_a_new_wrong_response_makes_its_question_new(data: Path, tiny: Recipe) -> None:
    old: dict[str, Sequence[str]] = {"one": (RIGHT,), "two": (RIGHT, WRONG)}
    now = {**old, "one": (RIGHT, WRONG)}
    run, triples = promoted(data, rows(old)), made_triples.triples(data, rows(now))
    preferring = changed(tiny, {"sft": {"objective": "dpo"}, "triples": {"samples": 2}}, "a preference")
    metrics = night.write(preferring, run, questions(data, 4), triples).manifest.named_metrics
    assert (metrics["samples_new"], metrics["samples_replayed"]) == (2, 2)
    metrics = night.write(tiny, run, questions(data, 4), triples).manifest.named_metrics
    assert metrics["samples_new"] == 0


def test_old_responses_that_an_objective_of_opd_learns_too_are_rows_of_another_night(data: Path, tiny: Recipe) -> None:
    learned = rows({f"old {n}": (RIGHT,) for n in range(8)})
    run, triples = promoted(data, learned, fresh=4), made_triples.triples(data, learned)
    mixed = changed(tiny, {"opd": {"objective": "gkd", "gkd": {"on_policy": 0.5}}}, "a mixture")
    assert mixed.opd.uses_triples and not tiny.opd.uses_triples
    without, with_old = (night.write(recipe, run, questions(data, 8), triples) for recipe in (tiny, mixed))
    assert without.manifest.named_metrics["samples_replayed"] == 0
    assert with_old.manifest.named_metrics["samples_replayed"] == 8


def trained(stage: str, name: str, recipe: Recipe, parents: Sequence[Artifact]) -> Artifact:
    """An artifact that says what its student began with."""
    student = {**recipe.student.identity(), "model": model_fingerprint(recipe.student.model)}
    identity = {"name": name, "student": student, "format": recipe.sft.format, "separator": recipe.sft.separator}
    return Store().produce(
        stage, recipe=recipe, version=1, identity=identity, parents=parents, build=lambda workspace: Outcome()
    )


def test_a_student_of_sft_that_is_promoted_by_hand_is_the_one_to_go_on_from(data: Path, tiny: Recipe) -> None:
    asked = questions(data, 4)
    taught = made_triples.triples(data, rows({"one": (RIGHT,)}), tiny, [asked])
    first, second = (trained("sft", name, tiny, [taught, asked]) for name in ("first", "second"))
    student = trained("opd", "student", tiny, [first, asked])
    for chosen, models in ((student, [first.id, student.id]), (second, [second.id]), (student, [first.id, student.id])):
        promotion.promote_lineage(Store(), chosen, "by hand")
        run = night.promoted_run(tiny)
        assert run is not None and run.student.id == chosen.id
        assert [each.id for each in run.models] == models
