"""The report stage as a task."""

from cohobate.config import Recipe
from cohobate.stages import report
from cohobate.store.artifacts import Artifact
from tasks.stage import stage


@stage("report")
def write_report(recipe: Recipe, artifacts: list[Artifact]) -> Artifact:
    """Write the page that shows what came out."""
    return report.write(recipe, artifacts)
