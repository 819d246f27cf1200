"""The students of a comparison, and the comparison, as tasks."""

from prefect import task
from prefect.cache_policies import NO_CACHE

from cohobate.config import Recipe
from cohobate.core.progress import listening
from cohobate.core.slots import required
from cohobate.experiments.comparison import parallel_runs
from cohobate.experiments.comparison.runner import ComparisonRunner, StageFunctions
from cohobate.experiments.comparison.stage import compare
from cohobate.store.artifacts import Artifact
from tasks.evaluation import evaluate
from tasks.opd import train_opd
from tasks.sft import train_sft
from tasks.slot import gpu_slot
from tasks.stage import ProgressArtifact, stage
from tasks.triples import write_triples

AS_TASKS = StageFunctions(write_triples, train_sft, train_opd, evaluate)


@task(name="students", task_run_name="students", cache_policy=NO_CACHE, persist_result=False)
def train_students(recipe: Recipe, questions: Artifact) -> None:
    """Train several students at a time; the task of each student then finds it in the store."""
    with listening(ProgressArtifact()), required(gpu_slot(True)):
        parallel_runs.train_students(recipe, questions)


@stage("comparison")
def write_comparison(recipe: Recipe, runner: ComparisonRunner) -> Artifact:
    """Write the tables and page of all students."""
    return compare(runner)
