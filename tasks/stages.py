"""The stages of a distillation as Prefect tasks."""

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.futures import wait

from cohobate.config import Recipe
from cohobate.core.progress import say
from cohobate.stages import evaluation, night, opd, questions, report, sft, triples
from cohobate.store.artifacts import Artifact
from tasks.secrets import keys_from_blocks
from tasks.stage_task import stage_task

write_questions = stage_task("questions", questions.write)
write_triples = stage_task(
    "triples",
    triples.write_for_student,
    retries=2,
    gpu=lambda recipe: any(each.teacher.is_folder for each in recipe.by_teacher.values()),
)
train_sft = stage_task("sft", sft.train, retries=1, gpu=True)
train_opd = stage_task("opd", opd.train, retries=1, gpu=True)
evaluate = stage_task("evaluation", evaluation.evaluate, retries=1, gpu=True)
write_report = stage_task("report", report.write)
write_night = stage_task("night", night.write)


@task(name="shard", task_run_name="shard {number} of {of}", retries=2, cache_policy=NO_CACHE, persist_result=False)
def _ask_shard(recipe: Recipe, questions: Artifact, number: int, of: int) -> int:
    keys_from_blocks(recipe)
    return triples.generate_shard(recipe, questions, number, of)


def ask_in_shards(recipe: Recipe, questions: Artifact, shards: int) -> None:
    """Let the task runner's machines ask the teacher, one shard each; `write_triples` asks for what is missing.

    A teacher that answers in batches gets them from `write_triples`: more machines would not make it faster.
    """
    if all(each.teacher.batch for each in recipe.by_teacher.values()):
        say("teacher.batch: this machine submits all batches, and the shards ask for nothing")
        return
    wait([_ask_shard.submit(recipe, questions, number, shards) for number in range(shards)])
