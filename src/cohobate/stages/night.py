"""A night that goes on from the promoted student: what that learned, and the rows that it has not learnt yet.

The stage's files are those that training reads: triples.parquet, verdicts.parquet and aggregates.parquet of the samples
of this night, questions.parquet with its fresh questions and all held-out ones. Beside them rows.parquet says of each
sample and fresh question whether it is new or replayed, and learned.parquet holds the key of every question that the
student may have learned, from its first night on.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from cohobate.config import Recipe
from cohobate.config.load import changed
from cohobate.core import progress
from cohobate.core.errors import QuestionsError, StoreError
from cohobate.core.fingerprint import hash_value
from cohobate.models.loading import model_fingerprint
from cohobate.stages.curation import selected
from cohobate.stages.night_units import preference_of, units_to_learn
from cohobate.store import promotion
from cohobate.store.artifacts import Artifact, Outcome, Store, Workspace
from cohobate.store.origins import origin

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import polars as pl

STAGE = "night"
VERSION = 1
_REMEDY = "set nightly.from = 'base' for a full run"
# Splits whose questions a student learns, from the teacher's responses or from its own rollouts.
_LEARNED = ("train", "fresh")


@dataclass(frozen=True)
class PromotedRun:
    """What is promoted of a recipe, by stage, and what its student was trained on.

    night: the rows of the night that trained it; None after a full run.
    """

    artifacts: dict[str, Artifact]
    student: Artifact
    questions: Artifact
    triples: Artifact
    night: Artifact | None

    @property
    def models(self) -> list[Artifact]:
        """The promoted artifacts that hold a model, in the order of the stages."""
        return self._cached("sft", "opd")

    @property
    def pages(self) -> list[Artifact]:
        """The promoted evaluation and report."""
        return self._cached("evaluation", "report")

    def _cached(self, *stages: str) -> list[Artifact]:
        return [replace(self.artifacts[stage], cached=True) for stage in stages if stage in self.artifacts]


def promoted_run(recipe: Recipe) -> PromotedRun | None:
    """The promoted run that `recipe` can go on from; None where no student of it is promoted.

    Raises StoreError for a student of another base, tokenizer, template or prompt, and where what it was trained on is
    gone; DamagedFileError for what was altered.
    """
    pointer = promotion.promoted(recipe.name)
    if pointer is None:
        return None
    stored = {each.fingerprint: each for each in Store().all()}
    artifacts = {stage: stored[value] for stage, value in pointer.fingerprints.items() if value in stored}
    stages = [stage for stage in ("opd", "sft") if stage in pointer.fingerprints]
    if "opd" in artifacts and not _follows(artifacts["opd"], pointer.fingerprints.get("sft")):
        del artifacts["opd"]
        stages.remove("opd")
    if not stages:
        return None
    if stages[0] not in artifacts:
        raise StoreError(f"{pointer.artifacts[stages[0]]}, which is promoted, is not in the store; {_REMEDY}")
    student = Store().open(pointer.fingerprints[stages[0]])
    trained = student if student.stage == "sft" else origin(student, "sft")
    night = origin(trained, STAGE) if trained else None
    learned = night or trained
    questions, triples = (origin(learned, stage) if learned else None for stage in ("questions", "triples"))
    if trained is None or questions is None or triples is None:
        raise StoreError(f"what {student.id}, which is promoted, was trained on is not in the store; {_REMEDY}")
    _require_same_student(recipe, student, night.manifest.identity if night else trained.manifest.identity)
    return PromotedRun(artifacts, student, questions, triples, night)


def _follows(student: Artifact, start: str | None) -> bool:
    """Whether `student` of opd goes on from the promoted one of sft, if one is: by hand sft can be promoted alone."""
    return start is None or start in [each.fingerprint for each in student.manifest.parents if each.stage == "sft"]


def _student(recipe: Recipe) -> dict[str, Any]:
    """What must not change under a student that goes on learning."""
    own = {**recipe.student.identity(), "model": model_fingerprint(recipe.student.model)}
    return {"student": own, "format": recipe.sft.format, "separator": recipe.sft.separator}


def _require_same_student(recipe: Recipe, student: Artifact, trained: dict[str, Any]) -> None:
    """Raise StoreError where the recipe's student is another than that which `trained`, an identity, begins with."""
    now = _student(recipe)
    before: dict[str, Any] = trained["student"]
    where = f"{student.id}, which is promoted, was trained"
    if before.get("model") != now["student"]["model"]:
        raise StoreError(
            f"{where} from another base than student.model = '{recipe.student.model}', whose weights, tokenizer or "
            f"template differ; {_REMEDY}, or give the recipe another name"
        )
    settings = ("prompt", "system", "template", "template_args", "template_date", "fold_system")
    differing = [f"student.{name}" for name in settings if before.get(name) != now["student"].get(name)]
    differing += [f"sft.{name}" for name in ("format", "separator") if trained.get(name) != now[name]]
    if differing:
        raise StoreError(f"{where} with another {' and '.join(differing)}; {_REMEDY}, or give the recipe another name")


def require_held_out(recipe: Recipe, run: PromotedRun, questions: Artifact) -> None:
    """Raise QuestionsError where a question to evaluate on is one that the promoted student may have learned.

    Drawn splits stay as they are when rows are added; a column `split`, or other shares, can move a question.
    """
    import polars as pl

    table = _keyed(questions)
    held_out = table.filter(pl.col("split").is_in([*recipe.evaluation.splits, "validation"]))
    still = table.filter(pl.col("split").is_in(_LEARNED))
    moved = held_out.filter(pl.col("key").is_in(_learned(run) - set(still["key"])))
    if len(moved):
        raise QuestionsError(
            f"{len(moved)} questions of the split {moved['split'][0]}, such as {moved['question'][0][:80]!r}, were to "
            f"learn from when {run.student.id} was trained; give them their old split, or {_REMEDY}"
        )


def write(recipe: Recipe, run: PromotedRun, questions: Artifact, triples: Artifact) -> Artifact:
    """The rows of a night: what the promoted student has not learnt, and as many old rows as `nightly.replay` asks for.

    New is a sample of a request that the triples of the promoted run hold no selected response to, and a fresh question
    that they did not have. Where sft learns a preference, all judged samples of a question stay together, and are new
    where one of them is. Its metrics say how many there are, and which part of all rows each stage learns.
    """
    triples = selected(recipe, triples)
    settings: dict[str, Any] = {
        "replay": recipe.nightly.replay,
        "seed": recipe.nightly.seed,
        "select": recipe.sft.select,
    }
    if preference := preference_of(recipe):
        settings["judged"] = "pairs" if preference.comparison.in_pairs else "responses"
    if recipe.opd.uses_triples:
        settings["triples"] = True
    earlier = [run.student, run.triples, run.questions, *([run.night] if run.night else [])]
    return Store().produce(
        STAGE,
        recipe=recipe,
        version=VERSION,
        identity={**settings, **_student(recipe)},
        parents=[triples, questions, *earlier],
        build=lambda workspace: _build(recipe, run, questions, triples, workspace),
    )


def _build(recipe: Recipe, run: PromotedRun, questions: Artifact, triples: Artifact, workspace: Workspace) -> Outcome:
    import polars as pl

    from cohobate.core.parquet import write_table
    from cohobate.core.schema import QUESTIONS

    draw, units = _Draw(recipe, run.student), units_to_learn(recipe, triples.path, run.triples.path)
    of_units = draw.rows(list(units.samples), units.before)
    table = _keyed(questions)
    fresh = table.filter(pl.col("split") == "fresh")["key"].to_list()
    before = _keyed(run.questions).filter(pl.col("split") == "fresh")["key"]
    of_fresh = draw.rows(fresh, set(before), at_least=math.ceil(of_units.share * len(fresh)))
    if recipe.opd.uses_triples and not of_units.new:
        wanted = math.ceil(of_fresh.share * len(units.samples))
        of_units = draw.rows(list(units.samples), units.before, at_least=wanted)
    of_samples = of_units.of(units.samples)
    _write_samples(triples, of_samples.chosen, workspace)
    staying = (pl.col("split") != "fresh") | pl.col("key").is_in(of_fresh.chosen)
    write_table(table.filter(staying).select(QUESTIONS.names), QUESTIONS, workspace.path / "questions.parquet")

    parts = [("sample", of_samples), ("question", of_fresh)]
    rows = [(kind, name, part) for kind, drawn in parts for name, part in drawn.named()]
    columns = {"kind": pl.String, "id": pl.String, "part": pl.String}
    pl.DataFrame(rows, schema=columns, orient="row").write_parquet(workspace.path / "rows.parquet")
    learned = _learned(run) | set(table.filter(pl.col("split").is_in(_LEARNED))["key"])
    pl.DataFrame({"key": sorted(learned)}, schema={"key": pl.String}).write_parquet(workspace.path / "learned.parquet")
    metrics = {f"{kind}s_{name}": value for kind, drawn in parts for name, value in drawn.counts().items()}
    return Outcome(len(rows), {"from": run.student.id, **metrics})


@dataclass(frozen=True)
class _Drawn:
    """Rows of a night, by name. share: which part they are of all `total`."""

    new: list[str]
    replayed: list[str]
    total: int

    @property
    def chosen(self) -> list[str]:
        return [*self.new, *self.replayed]

    @property
    def share(self) -> float:
        return len(self.chosen) / self.total if self.total else 0.0

    def named(self) -> list[tuple[str, str]]:
        return [*((name, "new") for name in self.new), *((name, "replayed") for name in self.replayed)]

    def of(self, samples: Mapping[str, Sequence[str]]) -> _Drawn:
        """The samples of the drawn names."""
        new, replayed = ([each for name in names for each in samples[name]] for names in (self.new, self.replayed))
        return _Drawn(new, replayed, sum(map(len, samples.values())))

    def counts(self) -> dict[str, int]:
        return {"new": len(self.new), "replayed": len(self.replayed), "all": self.total}


@dataclass(frozen=True)
class _Draw:
    """The draw of a night's rows: other old ones each night, the same however often the night is tried."""

    recipe: Recipe
    student: Artifact

    def rows(self, now: Sequence[str], before: set[str], at_least: int = 0) -> _Drawn:
        """Those of `now` that are new, and of the others the share that `nightly.replay` asks for; in all `at_least`
        where none is new, for a stage that follows one which learns.
        """
        new = [name for name in now if name not in before]
        replay = self.recipe.nightly.replay
        wanted = round(len(new) * replay / (1 - replay)) if new else at_least
        return _Drawn(new, sorted((name for name in now if name in before), key=self._place)[:wanted], len(now))

    def _place(self, name: str) -> bytes:
        return hashlib.sha256(f"{self.recipe.nightly.seed}\0{self.student.fingerprint}\0{name}".encode()).digest()


def _write_samples(triples: Artifact, chosen: Sequence[str], workspace: Workspace) -> None:
    """The rows of `chosen` samples, in the artifact's order, with their verdicts and the figures of their questions."""
    import polars as pl

    from cohobate.core import schema
    from cohobate.core.parquet import scan_table, write_table

    names = pl.DataFrame({"sample_id": chosen}, schema={"sample_id": pl.String}).lazy()
    samples = scan_table(triples.path / "triples.parquet", schema.TRIPLES)
    samples = samples.join(names, on="sample_id", how="semi", maintain_order="left")
    verdicts = pl.scan_parquet(triples.path / "verdicts.parquet")
    verdicts = verdicts.join(names, on="sample_id", how="semi", maintain_order="left")
    aggregates = pl.scan_parquet(triples.path / "aggregates.parquet")
    of_questions = samples.select("question_id").unique()
    aggregates = aggregates.join(of_questions, on="question_id", how="semi", maintain_order="left")
    write_table(samples.collect(), schema.TRIPLES, workspace.path / "triples.parquet")
    write_table(verdicts.collect(), schema.VERDICTS, workspace.path / "verdicts.parquet")
    write_table(aggregates.collect(), schema.AGGREGATES, workspace.path / "aggregates.parquet")


def _keyed(questions: Artifact) -> pl.DataFrame:
    """The questions, with a column key: the hash of what is asked, whatever id the row has."""
    import polars as pl

    from cohobate.core.parquet import scan_table
    from cohobate.core.schema import QUESTIONS

    frame = scan_table(questions.path / "questions.parquet", QUESTIONS).collect()
    keys = [hash_value(list(row))[:20] for row in frame.select("question", "conversation").iter_rows()]
    return frame.with_columns(pl.Series("key", keys, dtype=pl.String))


def _learned(run: PromotedRun) -> set[str]:
    """The keys of the questions that the promoted student may have learned."""
    import polars as pl

    earlier = set(pl.read_parquet(run.night.path / "learned.parquet")["key"]) if run.night else set[str]()
    return earlier | set(_keyed(run.questions).filter(pl.col("split").is_in(_LEARNED))["key"])


def has_rows(night: Artifact) -> bool:
    """Whether there is anything new to learn."""
    metrics = night.manifest.named_metrics
    return bool(metrics["samples_new"] or metrics["questions_new"])


def recipe_of(recipe: Recipe, night: Artifact) -> Recipe:
    """The recipe by which the stages that train learn the rows of `night`: fewer steps, in proportion.

    Its curation is done. Raises RecipeError where the steps do not fit.
    """
    metrics, nightly = night.manifest.named_metrics, recipe.nightly
    changes: dict[str, Any] = {"curation": None}
    for stage, kind in (("sft", "samples"), ("opd", "questions")):
        settings = getattr(recipe, stage)
        # An objective that rolls out on the questions of triples has those of the night's samples.
        counted = "samples" if stage == "opd" and recipe.opd.declared.references == "triples" else kind
        rows = metrics[f"{counted}_new"] + metrics[f"{counted}_replayed"]
        share = nightly.steps or rows / max(1, metrics[f"{counted}_all"])
        learns = rows if stage == "opd" else metrics["samples_new"]
        steps = math.ceil(settings.steps * share) if learns else 0
        warmup = min(steps, math.ceil(settings.warmup * share))
        changes[stage] = {"steps": steps, "warmup": warmup, "lr": settings.lr * getattr(nightly, f"{stage}_lr")}
    progress.say(
        f"night: {metrics['samples_new']:,} new triples and {metrics['samples_replayed']:,} old ones, "
        f"{metrics['questions_new']:,} new fresh questions and {metrics['questions_replayed']:,} old ones; from "
        f"{metrics['from']} {changes['sft']['steps']} steps of sft and {changes['opd']['steps']} of opd"
    )
    return changed(recipe, changes, f"recipe {recipe.name}, of {night.id}")
