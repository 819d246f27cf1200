"""Every night: rebuild what changed, and promote what came out if it is not worse: the deployment `nightly`."""

from prefect import flow

from cohobate.config import Recipe
from cohobate.store.artifacts import Artifact
from flows.distill import pipeline
from tasks.gate import pass_gate
from tasks.notify import notify
from tasks.run import resolved, run_until


@flow(persist_result=False, on_failure=[notify], on_crashed=[notify])
def nightly(recipe: Recipe | str = "arithmetic", allow: float = 0.0) -> list[Artifact]:
    """Run the recipe, and promote its artifacts unless rates fell by more than `allow` beyond their 95% intervals."""
    chosen = resolved(recipe)
    finished = run_until(pipeline(chosen), "report", chosen)
    pass_gate(chosen, finished, allow)
    return finished
