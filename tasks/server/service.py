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
from tasks.server.deployments import Record, timetables
from tasks.server.server_environment import environment

POOL = "cohobate"
AUTOMATION = "cohobate: a run that is lost"
LOST_SECONDS = 180.0
_ENDED = ("Completed", "Failed", "Crashed", "Cancelled", "Cancelling", "Paused", "Suspended", "AwaitingRetry")


def ensure(*, gpu: int | None, lost_after: float | None, reset: bool = False) -> list[str]:
    """Create pool, limit and automation; those that are there stay as they are, but for what is asked for.

    gpu: slots of the limit; None: as they are, 1 at first. lost_after: seconds without a heartbeat after which a run
    counts as lost with its machine; None: as it is, LOST_SECONDS at first. reset: the automation is made again, or
    switched on again. The sentences that come back say what the operator has otherwise.
    """
    with get_client(sync_client=True) as client:
        with suppress(ObjectAlreadyExists):
            client.create_work_pool(WorkPoolCreate(name=POOL, type="process"))
        _ensure_limit(client, gpu)
        return _ensure_automation(client, lost_after, reset=reset)


def _ensure_limit(client: SyncPrefectClient, slots: int | None) -> None:
    try:
        limit = client.read_global_concurrency_limit_by_name(LIMIT)
    except ObjectNotFound:
        client.create_global_concurrency_limit(GlobalConcurrencyLimitCreate(name=LIMIT, limit=slots or 1))
        return
    if slots is not None and limit.limit != slots:
        client.update_global_concurrency_limit(LIMIT, GlobalConcurrencyLimitUpdate(limit=slots))


def _ensure_automation(client: SyncPrefectClient, lost_after: float | None, *, reset: bool) -> list[str]:
    """Set a run to Crashed when its heartbeats stop and it has not ended, so that Retry works.

    Prefect itself does not act on a missing heartbeat: the run would be Running for ever.
    """
    record, wanted = Record(client, "automation"), reset or lost_after is not None
    automation = _automation(lost_after or LOST_SECONDS)
    existing = client.read_automations_by_name(AUTOMATION)
    if not existing:
        if record.exists and not wanted:
            return [f"the automation '{AUTOMATION}' was deleted; `cohobate up --reset` makes it again"]
        client.create_automation(automation)
        record.save()
        return []
    current = existing[0]
    # The operator may have given it a trigger of another kind.
    within, wanted_within = (getattr(each.trigger, "within", None) for each in (current, automation))
    if wanted and (within != wanted_within or (reset and not current.enabled)):
        automation.enabled = current.enabled or reset
        client.update_automation(current.id, automation)
    record.save()
    off = not (current.enabled or reset)
    return [f"the automation '{AUTOMATION}' is switched off, and stays so"] if off else []


def _automation(lost_after: float) -> AutomationCore:
    return AutomationCore(
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


def deploy(url: str, *, reset: bool = False) -> None:
    """Provide the deployments of prefect.yaml in a process of its own, which prints what the operator has otherwise.

    Raises UserError, or CalledProcessError where it failed otherwise; either has been said.
    """
    command = [sys.executable, "-m", "cohobate.cli.programs", "tasks.server.deploy", *(["--reset"] if reset else [])]
    subprocess.run(command, env=environment(url), check=True)


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
            when = [f"({each})" for each in timetables(deployment)]
            yield "deployment", " ".join([deployment.name, *when, *(["paused"] if deployment.paused else [])]), True
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
