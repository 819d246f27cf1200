"""The shards of a stage on a real Ray cluster: every request once, and the same triples as in one piece."""

from pathlib import Path

import pytest

from cohobate.stages import questions, triples
from tests.support.endpoint_recipe import recipe_of
from tests.support.triples_stage import make, table
from tests.support.wire_server import Act, WireServer

OF_THE_RUN = ["latency_ms", "created_at", "run_id", "flow_run_id"]


@pytest.mark.serves
def test_shards_ask_each_request_once_between_them(tmp_path: Path, data: Path) -> None:
    server = WireServer()
    with server.running():
        recipe = recipe_of(tmp_path, server.url, 41)
        asked = questions.write(recipe)
        counts = []
        for number in (2, 0, 1):
            before = len(server.seen)
            assert triples.generate_shard(recipe, asked, number, 3) == 0
            counts.append(len(server.seen) - before)
        assert sorted(counts) == [13, 14, 14]
        made = triples.write(recipe, asked)
        assert len(server.seen) == len(set(server.keys)) == 41
    assert {entry["paid"] for entry in made.manifest.ledger} == {"here"}


@pytest.mark.prefect
@pytest.mark.timeout(300)
def test_a_ray_cluster_writes_the_triples_that_one_machine_writes(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray
    from prefect.client.orchestration import get_client
    from prefect.testing.utilities import prefect_test_harness

    server = WireServer(lambda body, time: Act(delay=0.02))
    with server.running():
        recipe = recipe_of(tmp_path, server.url, 60, triples={"concurrency": 4})
        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
        try:
            with prefect_test_harness(server_startup_timeout=120):
                from flows.sharded import sharded

                [_, made] = sharded(recipe, shards=2)
                with get_client(sync_client=True) as client:
                    states = {task.name: task.state_name for task in client.read_task_runs()}
        finally:
            ray.shutdown()
        assert states == dict.fromkeys(("questions", "shard 0 of 2", "shard 1 of 2", "triples"), "Completed")
        assert len(server.seen) == len(set(server.keys)) == 60
        monkeypatch.setenv("COHOBATE_DATA", str(tmp_path / "whole"))
        whole = make(recipe)
    assert made.fingerprint == whole.fingerprint
    ours, theirs = (table(each).drop(OF_THE_RUN) for each in (made, whole))
    assert ours.equals(theirs)
    assert not ours["cached"].any()
