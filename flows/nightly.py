"""A nightly run: rebuild what changed, and promote the result if it is not worse: the deployment `nightly`."""

from cohobate.config import Recipe
from cohobate.store.artifacts import Artifact
from flows.distill import pipeline
from tasks.gate import pass_gate
from tasks.run import cohobate_flow, resolved, run_stages


@cohobate_flow()
def nightly(recipe: Recipe | str = "arithmetic", allow: float = 0.0) -> list[Artifact]:
    """Run the recipe, and promote its artifacts unless rates fell by more than `allow` beyond their 95% intervals."""
    chosen = resolved(recipe)
    finished = run_stages(pipeline(chosen), chosen)
    pass_gate(chosen, finished, allow)
    return finished
