"""The checks of a recipe that fail."""

from cohobate.config import Recipe
from cohobate.stages.preflight import check


def failed(recipe: Recipe) -> dict[str, str]:
    """The details of the failed checks, by the checks' names."""
    return {finding.name: finding.detail for finding in check(recipe) if not finding.passed}
