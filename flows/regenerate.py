"""A dataset from the same questions by another teacher, compared with the old one: the deployment `regenerate`."""

from collections.abc import Iterator

from cohobate.config import Recipe
from cohobate.stages.regeneration import NewTeacher, dataset, questions_of, recipe_of
from cohobate.store.artifacts import Artifact
from tasks.gate import Allowance, pass_gate
from tasks.run import cohobate_flow, run_stages
from tasks.stages import write_questions, write_triples


def pipeline(recipe: Recipe, old: Artifact) -> Iterator[Artifact]:
    """The questions of `old`, then the new triples."""
    yield (questions := questions_of(old) or write_questions(recipe))
    yield write_triples(recipe, questions)


@cohobate_flow()
def regenerate(teacher: NewTeacher, old: str = "arithmetic", allow: Allowance = 0.0) -> list[Artifact]:
    """Make a new dataset beside the old one, and promote it if it passes the gate.

    Args:
        teacher: Who answers the questions now.
        old: Id of the triples, or the name of a recipe: its promoted triples, else the newest.
        allow: The least that each limit of the recipe's section `gate`, but for the margins, is raised to: a share.

    """
    before = dataset(old)
    recipe = recipe_of(before, teacher)
    finished = run_stages(pipeline(recipe, before), recipe, "triples")
    pass_gate(recipe, finished, allow, against=before)
    return finished
