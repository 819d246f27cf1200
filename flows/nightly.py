"""A nightly run: rebuild what changed, and promote the result if it is not worse: the deployment `nightly`."""

from cohobate.config import Recipe
from cohobate.store.artifacts import Artifact
from flows.distill import pipeline
from tasks.gate import Allowance, pass_gate
from tasks.run import cohobate_flow, resolved, run_stages


@cohobate_flow()
def nightly(recipe: Recipe | str = "arithmetic", allow: Allowance = 0.0) -> list[Artifact]:
    """Run the recipe, and promote its artifacts if they pass the gate.

    Args:
        recipe: A name, a path, or the whole of it.
        allow: The least that each limit of the recipe's section `gate`, but for the margins, is raised to: a share.

    """
    chosen = resolved(recipe)
    finished = run_stages(pipeline(chosen), chosen)
    pass_gate(chosen, finished, allow)
    return finished
