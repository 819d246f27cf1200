"""The parts of a Prefect server that the deployments need: work pool, concurrency limit, automation. Idempotent."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta

from prefect.automations import AutomationCore, EventTrigger
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import GlobalConcurrencyLimitCreate, GlobalConcurrencyLimitUpdate, WorkPoolCreate
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterTags
from prefect.client.schemas.objects import StateType, WorkerStatus
from prefect.events.actions import ChangeFlowRunState
from prefect.events.schemas.automations import Posture
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound

from tasks.gpu_slot import LIMIT
from tasks.heartbeat import LOST
from tasks.server.server_environment import environment, project

POOL = "cohobate"
AUTOMATION = "cohobate: a run that is lost"
_ENDED = ("Completed", "Failed", "Crashed", "Cancelled", "Cancelling", "Paused", "Suspended", "AwaitingRetry")


def ensure(*, gpu: int | None, lost_after: float) -> None:
    """Create or update pool, limit and automation; those that are right already stay untouched.

    gpu: slots of the limit; None: as they are, 1 at first. lost_after: seconds without a heartbeat after which a run
    counts as lost with its machine.
    """
    with get_client(sync_client=True) as client:
        with suppress(ObjectAlreadyExists):
            client.create_work_pool(WorkPoolCreate(name=POOL, type="process"))
        _ensure_limit(client, gpu)
        _ensure_automation(client, lost_after)


def _ensure_limit(client: SyncPrefectClient, slots: int | None) -> None:
    try:
        limit = client.read_global_concurrency_limit_by_name(LIMIT)
    except ObjectNotFound:
        client.create_global_concurrency_limit(GlobalConcurrencyLimitCreate(name=LIMIT, limit=slots or 1))
        return
    if slots is not None and limit.limit != slots:
        client.update_global_concurrency_limit(LIMIT, GlobalConcurrencyLimitUpdate(limit=slots))


def _ensure_automation(client: SyncPrefectClient, lost_after: float) -> None:
    """Set a run to Crashed when its heartbeats stop and it has not ended, so that Retry works.

    Prefect itself does not act on a missing heartbeat: the run would be Running for ever.
    """
    automation = AutomationCore(
        name=AUTOMATION,
        description=f"No heartbeat for {lost_after:g} s: the run's machine or process is gone.",
        trigger=EventTrigger(
            after={"prefect.flow-run.heartbeat"},
            expect={"prefect.flow-run.heartbeat", *(f"prefect.flow-run.{name}" for name in _ENDED)},
            match={"prefect.resource.id": ["prefect.flow-run.*"]},
            for_each={"prefect.resource.id"},
            posture=Posture.Proactive,
            threshold=1,
            within=timedelta(seconds=lost_after),
        ),
        actions=[
            ChangeFlowRunState(state=StateType.CRASHED, message=LOST),
        ],
    )
    existing = client.read_automations_by_name(AUTOMATION)
    if not existing:
        client.create_automation(automation)
    elif existing[0].trigger.within != automation.trigger.within:  # type: ignore[union-attr]
        client.update_automation(existing[0].id, automation)


def deploy(url: str) -> None:
    """Deploy all of prefect.yaml, to be run in its folder. Raises CalledProcessError."""
    command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"]
    subprocess.run(command, cwd=project(), env=environment(url), check=True, stdout=subprocess.DEVNULL)


def worker_is_online() -> bool:
    """Whether a worker takes the runs of the pool."""
    with get_client(sync_client=True) as client:
        workers = client.read_workers_for_work_pool(POOL)
        return any(worker.status == WorkerStatus.ONLINE for worker in workers)


def status() -> Iterator[tuple[str, str, bool]]:
    """(part, state, whether that is well) of everything that `cohobate up` provides."""
    with get_client(sync_client=True) as client:
        yield _state("work pool", lambda: client.read_work_pool(POOL).name)
        online = _state("worker", lambda: "online" if worker_is_online() else "")
        yield online if online[1] != "" else ("worker", "none online: runs wait until one is", False)
        yield _state("gpu limit", lambda: _slots(client))
        automations = client.read_automations_by_name(AUTOMATION)
        well = bool(automations and automations[0].enabled)
        yield "automation", AUTOMATION if well else "not there, or switched off: lost runs stay Running", well
        tagged = DeploymentFilter(tags=DeploymentFilterTags(all_=["cohobate"]))
        deployments = client.read_deployments(deployment_filter=tagged)
        for deployment in sorted(deployments, key=lambda each: each.name):
            crons = [f"{each.schedule.cron} {each.schedule.timezone}" for each in deployment.schedules if each.active]  # type: ignore[union-attr]
            yield "deployment", " ".join([deployment.name, *(f"({cron})" for cron in crons)]), True
        if not deployments:
            yield "deployment", "none: `cohobate up` makes those of prefect.yaml", False


def _slots(client: SyncPrefectClient) -> str:
    limit = client.read_global_concurrency_limit_by_name(LIMIT)
    return f"{limit.active_slots} of {limit.limit} in use"


def _state(part: str, read: Callable[[], str]) -> tuple[str, str, bool]:
    try:
        return part, read(), True
    except ObjectNotFound:
        return part, "not there: `cohobate up` makes it", False
