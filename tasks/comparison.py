"""The students of a comparison, and the comparison, as tasks."""

from prefect import task
from prefect.cache_policies import NO_CACHE

from cohobate.config import Recipe
from cohobate.core.progress import listening
from cohobate.core.slots import required
from cohobate.experiments.comparison import parallel_runs
from cohobate.experiments.comparison import stage as comparison
from cohobate.experiments.comparison.runner import Course, Makers
from cohobate.store.artifacts import Artifact
from tasks.evaluation import evaluate
from tasks.opd import train_opd
from tasks.sft import train_sft
from tasks.slot import gpu_slot
from tasks.stage import ProgressArtifact, stage
from tasks.triples import write_triples

AS_TASKS = Makers(write_triples, train_sft, train_opd, evaluate)


@task(name="students", task_run_name="students", cache_policy=NO_CACHE, persist_result=False)
def train_ahead(recipe: Recipe, questions: Artifact) -> None:
    """Train several students at a time; the tasks of each of them then find it in the store."""
    with listening(ProgressArtifact()), required(gpu_slot(True)):
        parallel_runs.work(recipe, questions)


@stage("comparison")
def write_comparison(recipe: Recipe, course: Course) -> Artifact:
    """Set the students side by side."""
    first = course.triples(recipe), course.start(), course.start_scores()
    return comparison.compare(recipe, course.questions, *first, course.trained())
