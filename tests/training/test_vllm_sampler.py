"""OPD with real engines: vLLM samples for the student, and `vllm serve` scores for the teacher."""

import os
import re
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import polars as pl
import pytest
import torch

from cohobate.config import Recipe
from cohobate.config.load import load_recipe
from cohobate.core.errors import CohobateError
from cohobate.evaluation.samplers import LocalSampler, ModelSampler
from cohobate.models.chat_template import question_ids, student_format
from cohobate.models.loading import load
from cohobate.models.logprobs import score
from cohobate.models.sampling.decoding import Decoding, Sampled, SamplingJob
from cohobate.models.sequence import TrainingSequence
from cohobate.stages import opd
from cohobate.store.artifacts import Artifact
from cohobate.training.trainee import Trainee
from cohobate.training.vllm_sampler import VllmSampler
from tests.support.pipeline import SMALL, train_stages
from tests.support.vllm_runs import engines, needs_vllm

pytestmark = needs_vllm

STEPS = 12
ROLLOUTS = 24
LEARNS = [
    *SMALL,
    *("questions.validation=100", "sft.steps=80", "sft.evaluate_every=80", "sft.evaluate_questions=0"),
    *("opd.objective=topk", "opd.topk.k=16", "opd.lr=1e-3", f"opd.steps={STEPS}", f"opd.prompts={ROLLOUTS // 2}"),
    *(f"opd.evaluate_every={STEPS}", "opd.evaluate_questions=100", "opd.snapshot_every=5"),
]
VLLM = ["teacher.scoring=server", "opd.sampler=vllm"]


class Student:
    """A student, the engine beside it, and what both say to the same rollouts."""

    def __init__(self) -> None:
        recipe = load_recipe("tiny", ["runtime.threads=1", "opd.sampler=vllm"])
        self.model = load("world/base", train=True)
        self.trainee = Trainee(self.model, recipe.opd, "base")
        self.sampler = VllmSampler(recipe, self.trainee)
        prompt_format = student_format(recipe)
        self.prompts = [question_ids(self.model.tokenizer, f"What is {n} + 3 * {n}?", prompt_format) for n in range(16)]

    def roll_out(self) -> list[Sampled]:
        return self.sampler.begin(self.prompts, [str(n) for n in range(16)])()

    def difference(self, sampled: list[Sampled]) -> float:
        """The largest, of the sampler's log-probabilities and the trainer's."""
        pairs = zip(self.prompts, sampled, strict=True)
        rows = [TrainingSequence([*prompt, *item.response_ids], len(prompt)) for prompt, item in pairs]
        own = score(self.model.model, rows, 2048, self.model.pad_id)
        both = zip(sampled, own, strict=True)
        return max(float((torch.tensor(item.logprobs) - known.logprobs).abs().max()) for item, known in both)

    @torch.no_grad()
    def learn(self, seed: int) -> None:
        """Move every weight that learns."""
        torch.manual_seed(seed)
        for parameter in self.trainee.trainable().values():
            parameter.add_(0.01 * torch.randn_like(parameter))


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Student]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COHOBATE_DATA", str(tmp_path_factory.mktemp("student")))
        made = Student()
        yield made
        made.sampler.close()
        assert not engines(Path(os.environ["COHOBATE_DATA"]))


def test_after_each_update_the_engine_has_the_trainers_weights(student: Student) -> None:
    """Of every layer: the tied output layer too, of which a CPU's engine has a packed copy."""
    sampled = student.roll_out()
    assert student.difference(sampled) < 1e-4
    for update in range(3):
        student.learn(seed=update)
        assert student.difference(sampled) > 0.1  # what the old weights said is wrong now
        sampled = student.roll_out()
        assert student.difference(sampled) < 1e-4


def test_the_same_keys_sample_the_same_rollouts_and_an_end_is_there_only_if_it_was_sampled(student: Student) -> None:
    one, again = student.roll_out(), student.roll_out()
    assert [item.response_ids for item in one] == [item.response_ids for item in again]
    assert len({tuple(item.response_ids) for item in one}) > 8
    for item in one:
        assert len(item.logprobs) == len(item.response_ids) <= 48
        assert (item.finish_reason == "stop") == (item.response_ids[-1] in student.model.eos_ids)


def test_an_evaluation_point_asks_the_same_engine_with_the_weights_of_its_moment(student: Student) -> None:
    """Also while rollouts are under way, which are still those of the policy that had begun them."""
    local = LocalSampler(student.model, 16)

    def greedy(sampler: ModelSampler) -> list[list[int]]:
        keys = [str(n) for n in range(len(student.prompts))]
        job = SamplingJob(student.prompts, Decoding(32, 0.0), student.model.eos_ids, keys)
        return [row.response_ids for row in sampler.sample(job)]

    before = greedy(local)
    assert greedy(student.sampler) == before
    expected = [row.response_ids for row in student.roll_out()]
    draw = student.sampler.begin(student.prompts, [str(n) for n in range(16)])
    student.learn(seed=7)
    with ThreadPoolExecutor(1) as pool:
        point = pool.submit(greedy, student.sampler)
        time.sleep(0.5)
        assert not point.done()  # the engine has the rollouts' weights until they are drawn
        assert [row.response_ids for row in draw()] == expected
        assert point.result() == greedy(local) != before


def test_weights_pass_through_shared_memory_and_nothing_stays_there(student: Student) -> None:
    student.roll_out()
    folder = student.sampler.weights_folder
    assert folder is not None and folder.name.startswith("/dev/shm/")
    assert not list(Path(folder.name).iterdir())


def test_an_engine_that_is_killed_is_one_sentence(student: Student) -> None:
    """The last test with this engine."""
    for pid in engines(Path(os.environ["COHOBATE_DATA"])):
        os.kill(pid, signal.SIGKILL)
    with pytest.raises(CohobateError, match=r"vLLM stopped in the middle: killed by signal 9.*run again"):
        student.roll_out()
    folder = student.sampler.weights_folder
    student.sampler.close()
    assert folder is not None and not Path(folder.name).exists()


def servers(root: Path) -> list[int]:
    """The processes of `vllm serve` whose log lies below `root`."""
    return [pid for pid in engines(root) if "vllm-serve" in str(Path(f"/proc/{pid}/fd/2").readlink())]


def kill_in_the_middle(root: Path, seen: list[int]) -> None:
    """SIGKILL to the server that scores, once the third step is logged."""
    deadline = time.monotonic() + 200
    while time.monotonic() < deadline:
        if list(root.glob("opd/*/**/rollouts/step-000002.parquet")):
            seen += servers(root)
            for pid in seen:
                os.kill(pid, signal.SIGKILL)
            return
        time.sleep(0.02)


def learnt(recipe: Recipe, made: dict[str, Artifact]) -> Artifact:
    return opd.train(recipe, made["sft"], made["questions"], made["triples"])


@pytest.mark.kill
def test_with_both_engines_it_learns_as_without_and_a_killed_server_costs_a_retry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = {"local": tmp_path / "local", "vllm": tmp_path / "vllm"}
    monkeypatch.setenv("COHOBATE_DATA", str(root["local"]))
    made = train_stages(load_recipe("tiny", [*LEARNS, "opd.steps=0", "opd.warmup=0"]))
    shutil.copytree(root["local"], root["vllm"])
    local = learnt(load_recipe("tiny", LEARNS), made)

    monkeypatch.setenv("COHOBATE_DATA", str(root["vllm"]))
    killed: list[int] = []
    killer = threading.Thread(target=kill_in_the_middle, args=(root["vllm"], killed))
    killer.start()
    served = learnt(load_recipe("tiny", [*LEARNS, *VLLM]), made)
    killer.join()
    assert killed and not engines(root["vllm"])
    assert "starting it again" in re.sub(r"\s+", " ", capsys.readouterr().err)

    both = {"local": local, "vllm": served}
    metrics = {name: pl.read_parquet(artifact.path / "metrics.parquet") for name, artifact in both.items()}
    kl = {name: table["reverse_kl"].to_list() for name, table in metrics.items()}
    for series in kl.values():
        assert sum(series[-4:]) / 4 < 0.75 * sum(series[:2]) / 2
    assert abs(sum(kl["vllm"][-6:]) - sum(kl["local"][-6:])) / 6 < 0.25
    assert max(metrics["vllm"]["mismatch_max"].to_list()) < 1e-3  # the sampler had the trainer's weights at each step

    ours, theirs = (pl.read_parquet(one.path / "points.parquet").row(-1, named=True) for one in (local, served))
    assert ours["low"] <= theirs["high"] and theirs["low"] <= ours["high"]

    log = pl.read_parquet(served.path / "rollouts.parquet")
    assert log.group_by("step").len()["len"].to_list() == [ROLLOUTS] * STEPS
    assert log["teacher_logprobs"].null_count() == 0
    scored = {entry["work"]: entry for entry in served.manifest.ledger if entry["stage"] == "opd"}["scoring"]
    assert scored["sequences"] == ROLLOUTS * STEPS and scored["flops"] > 0
