"""SIGKILL at random moments of every objective's training: the weights are, bit for bit, those of a run left alone."""

import multiprocessing
import os
import random
import shutil
import signal
import time
from multiprocessing.synchronize import Event
from pathlib import Path

import pytest

from cohobate.config.load import load_recipe
from cohobate.stages import opd, sft
from cohobate.store.artifacts import Artifact, Store
from tests.support.method_runs import METHODS, SMALL
from tests.support.training_runs import published_weights

pytestmark = [pytest.mark.kill, pytest.mark.timeout(300)]

STEPS = "opd.steps=4"
CHOSEN = ("exact", "sampled", "topk", "jsd", "grpo", "ghost", "judge", "partial", "overlap", "dpo")
TWO = ["teachers=[{name='a', model='world/teacher'}, {name='b', model='world/base', prompt='{question}'}]"]
TWO += ["route={share={a=0.5, b=0.5}}"]
CASES = {
    "a teacher a prompt": TWO,
    "a mixture of teachers": [*TWO, "opd.mixture={a=0.7, b=0.3}"],
    **{name: METHODS[name] for name in (*CHOSEN, "shown feedback by its average")},
    "two processes": ["runtime.processes=2"],
    "logit_kd": ["sft.objective=logit_kd"],
    "kto on triples": ["sft.objective=kto"],
}
KILLS = int(os.environ.get("COHOBATE_KILLS", "1"))


@pytest.fixture(scope="module")
def processes() -> multiprocessing.context.ForkServerContext:
    """Children that have imported everything and computed nothing."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["tests.training.test_method_kills", "cohobate.training.loop", "cohobate.training.rollout_source"]
    )
    return context


def train(root: Path, overrides: list[str], made: list[Artifact], begun: Event) -> None:
    """The stage that is to be killed, in a process of its own."""
    os.setpgid(0, 0)
    begun.set()
    os.environ["COHOBATE_DATA"] = str(root)
    recipe = load_recipe("tiny", [*SMALL, STEPS, "runtime.threads=1", *overrides])
    start, asked, taught = made
    if recipe.sft.objective == "cross_entropy":
        opd.train(recipe, start, asked, taught)
    else:
        sft.train(recipe, taught, asked)


def weights(root: Path) -> dict[str, bytes]:
    [artifact] = Store(root).all()
    found = published_weights(artifact)
    return {name: value.numpy().tobytes() for name, value in found.items()}


@pytest.mark.parametrize("name", CASES)
def test_kills_at_random_moments_change_no_bit(
    name: str,
    start_artifacts: tuple[Path, list[Artifact]],
    processes: multiprocessing.context.ForkServerContext,
    tmp_path: Path,
) -> None:
    def begin(root: Path) -> multiprocessing.context.ForkServerProcess:
        begun = processes.Event()
        child = processes.Process(target=train, args=(root, CASES[name], start_artifacts[1], begun))
        child.start()
        assert begun.wait(60)
        return child

    alone = begin(tmp_path / "alone")
    began = time.monotonic()
    alone.join()
    assert alone.exitcode == 0
    lasted = time.monotonic() - began
    draw = random.Random(f"{name} {os.environ.get('COHOBATE_KILL_SEED', '0')}")
    root, killed = tmp_path / "killed", 0
    while killed < KILLS:
        child = begin(root)
        child.join(draw.uniform(0.1, 0.8) * lasted)
        if child.exitcode is None:
            assert child.pid is not None
            os.killpg(child.pid, signal.SIGKILL)
            killed += 1
            child.join()
        elif killed:
            break
        else:  # it was faster than the one that was left alone
            shutil.rmtree(root)
    last = begin(root)
    last.join()
    assert last.exitcode == 0
    assert weights(root) == weights(tmp_path / "alone")
    assert Store(root).all()[0].manifest.ledger == Store(tmp_path / "alone").all()[0].manifest.ledger
