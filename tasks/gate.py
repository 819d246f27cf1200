"""The gate as a task: new artifacts replace the promoted ones, or the run fails with the reasons."""

from collections.abc import Sequence
from typing import Annotated, Any

from prefect import task
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.cache_policies import NO_CACHE
from pydantic import Field

from cohobate.config import Recipe
from cohobate.core.errors import GateError
from cohobate.core.progress import say
from cohobate.datasets import gate_checks
from cohobate.datasets.diff import DatasetDiff
from cohobate.datasets.gate import Check, Decision, GateResult, decide, with_checks
from cohobate.report import diff
from cohobate.report.gate import gate_rows
from cohobate.stages import probes
from cohobate.store import promotion
from cohobate.store.artifacts import Artifact, data_root
from tasks.best_effort import attempt
from tasks.server import pages
from tasks.summary import table

# What a run may raise the limits of the gate to.
Allowance = Annotated[float, Field(ge=0, le=1)]
_CHANGES = 20


@task(name="probes", task_run_name="probes", cache_policy=NO_CACHE, persist_result=False)
def ask_probes(recipe: Recipe, questions: Artifact, allow: float = 0.0) -> Check:
    """Ask the teacher's probes, and tell what differs: the check for the gate.

    Raises GateError before anything else is asked where another model seems to answer.
    """
    result = probes.probe(recipe, questions)
    say(result.sentence)
    check = gate_checks.probes(result, recipe.gate.loosened(allow))
    description = f"## {recipe.name}: probes\n\n{check.reason or result.sentence}"
    attempt(create_table_artifact, key="probes", table=gate_rows([check]), description=description)
    if check.reason and result.answered:
        table = [{"check": f"{recipe.name}: refused"}, *gate_rows([check])]
        attempt(create_table_artifact, key="gate", table=table, description=description)
        raise GateError(f"{recipe.name} asks nothing tonight: {check.reason}")
    return check


@task(name="gate", task_run_name="gate", cache_policy=NO_CACHE, persist_result=False)
def pass_gate(
    recipe: Recipe,
    artifacts: Sequence[Artifact],
    allow: float = 0.0,
    against: Artifact | None = None,
    further: Sequence[Check] = (),
) -> None:
    """Promote `artifacts` if they pass every check of the gate. Raises GateError if they do not.

    allow: the least that each limit of the recipe's section `gate` is raised to. against: triples to compare with
    beside the promoted ones. further: checks that were made before.
    """
    with promotion.changing(recipe.name):  # or what another run promotes meanwhile was compared with nothing
        decision = with_checks(decide(recipe.name, artifacts, allow, against, recipe.gate), further)
        promoted = decision.changed and not decision.objections
        if promoted:
            promotion.promote(recipe.name, artifacts, "; ".join(decision.remarks))
    verdict = "refused" if decision.objections else "promoted" if promoted else "unchanged"
    if decision.triples:
        description = "The promoted triples and the new ones side by side."
        attempt(create_markdown_artifact, key="diff", markdown=_diff(*decision.triples), description=description)
    attempt(
        create_table_artifact,
        key="gate",
        table=[{"check": f"{recipe.name}: {verdict}"}, *gate_rows(decision.checks)],
        description=_page(recipe, artifacts, decision, verdict),
    )
    for line in (*decision.remarks, *decision.objections, f"gate: {verdict}"):
        say(line)
    if decision.objections:
        raise GateError(f"{recipe.name} does not pass the gate and is not promoted: {'; '.join(decision.objections)}")


def _page(recipe: Recipe, artifacts: Sequence[Artifact], decision: Decision, verdict: str) -> str:
    """The verdict, its reasons, the promoted artifacts, and the new artifacts of this run."""
    lines = [f"## {recipe.name}: {verdict}", ""]
    lines += [f"- **{reason}**" for reason in decision.objections] + [f"- {line}" for line in decision.remarks]
    if decision.objections:
        lines += ["", "What was promoted before stays. To promote it all the same: "]
        lines += ["", f"    cohobate promote {artifacts[-1].id}"]
    if pointer := promotion.promoted(recipe.name):
        lines += ["", "### Promoted", "", *table(["stage", "artifact"], list(pointer.artifacts.items()))]
    new = [artifact.id for artifact in artifacts if not artifact.cached]
    lines += ["", f"Made by this run: {', '.join(f'`{name}`' for name in new) or 'nothing, all of it was stored'}."]
    return "\n".join(lines)


def _diff(datasets: DatasetDiff, gate: GateResult) -> str:
    """The diff as the UI shows it; all of it is a page beside the data."""
    a, b = datasets.a.id, datasets.b.id
    page = data_root() / "pages" / f"{'--'.join(each.replace('/', '-') for each in (a, b))}.html"
    diff.write_page(datasets, page, gate)
    changes = [
        [row["question"], row["gold"] or "–", *(_answers(row, side) for side in ("a", "b"))]
        for row in diff.largest_changes(datasets, _CHANGES)
    ]
    return "\n".join(
        [
            f"## {a} → {b}",
            "",
            *(f"- {sentence}" for sentence in diff.sentences(datasets)),
            "",
            *table(["", f"A {a}", f"B {b}"], diff.total_lines(datasets)),
            "",
            "### Largest changes",
            "",
            *(table(["question", "gold", "A", "B"], changes) if changes else ["None."]),
            "",
            f"All questions: {f'[{page.name}]({address})' if (address := pages.link(page)) else f'`{page}`'}",
        ]
    )


def _answers(row: dict[str, Any], side: str) -> str:
    return f"{row[f'majority_{side}'] or '–'} ({diff.verdicts(row, side)})"
