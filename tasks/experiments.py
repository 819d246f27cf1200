"""The stages of the experiments as Prefect tasks."""

from prefect import task
from prefect.cache_policies import NO_CACHE

from cohobate.config import Recipe
from cohobate.core import context
from cohobate.experiments.comparison import distance, parallel_runs
from cohobate.experiments.comparison.runner import ComparisonRunner, StageFunctions
from cohobate.experiments.comparison.stage import compare
from cohobate.experiments.recovery import stages as recovery
from cohobate.experiments.single_prompt import stages as single_prompt
from cohobate.experiments.tiny_policy import stages as tiny_policy
from cohobate.store.artifacts import Artifact
from tasks.gpu_slot import gpu_slot
from tasks.stage_task import ProgressArtifact, stage_task
from tasks.stages import evaluate, train_opd, train_sft, write_triples

# `cohobate compare`
measure_distance = stage_task("distance", distance.measure, retries=1, gpu=True)
AS_TASKS = StageFunctions(write_triples, train_sft, train_opd, evaluate, measure_distance)


@task(name="students", task_run_name="students", cache_policy=NO_CACHE, persist_result=False)
def train_students(recipe: Recipe, questions: Artifact) -> None:
    """Train several students at a time; the task of each student then finds it in the store."""
    with context.listening(ProgressArtifact()), context.using(slot=gpu_slot(True)):
        parallel_runs.train_students(recipe, questions)


def _compare(recipe: Recipe, runner: ComparisonRunner) -> Artifact:
    """Write the tables and page of all students."""
    return compare(runner)


write_comparison = stage_task("comparison", _compare)

# `cohobate policy train`
train_policy = stage_task("policy", tiny_policy.train, retries=1)
study_judge = stage_task("judge", tiny_policy.study)

# `cohobate recover`
write_prompts = stage_task("prompts", recovery.write_prompts)
answer_chat = stage_task("chat", recovery.answer_chat, retries=1, gpu=True)
midtrain = stage_task("midtrain", recovery.midtrain, retries=1, gpu=True)
examine = stage_task("exam", recovery.examine, retries=1, gpu=True)
write_recovery_table = stage_task("recovery", recovery.write_table)

# `cohobate single-prompt`
choose_prompt = stage_task("one-prompt", single_prompt.choose_prompt)
without_rationales = stage_task("without-rationales", single_prompt.without_rationales)
measure_held_out = stage_task("held-out", single_prompt.measure_held_out, retries=1, gpu=True)
write_single_prompt_table = stage_task("single", single_prompt.write_table)
