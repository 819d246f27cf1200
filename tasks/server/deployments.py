"""Deployments on the server as prefect.yaml has them, but for what the operator has changed there since.

Of each deployment a variable of the server (`cohobate_up_...`) keeps what was set last, as hashes. A field that is no
longer what was set is the operator's from then on: it stays, and what differs is said. Schedules that were not made
here are never touched, and neither is whether a deployment is paused. A crash between a change and its record does no
harm: what is as it should be counts as set.
"""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from prefect import Flow
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import (
    DeploymentScheduleCreate,
    DeploymentUpdate,
    VariableCreate,
    VariableUpdate,
)
from prefect.client.schemas.objects import ConcurrencyLimitStrategy, ConcurrencyOptions, DeploymentSchedule
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.schedules import construct_schedule
from prefect.exceptions import ObjectNotFound
from prefect.utilities.callables import parameter_schema
from prefect.utilities.importtools import import_object

from cohobate.core.errors import UserError
from cohobate.core.fingerprint import hash_value
from tasks.server.definitions import Definition, Schedule, refuse_namesakes

_LONGEST = 200  # characters of a variable's name, without its hash
_SHOWN = 120  # characters of a value in a sentence
# What the operator may change, and how it is called.
_FIELDS = ("description", "parameters", "tags", "concurrency", "work_pool_name", "job_variables")
_NAMES = {"concurrency": "concurrency limit", "work_pool_name": "work pool"}


class Record:
    """What was set last, in a variable of the server: {"fields": {field: hash}, "schedules": {slug: hash}}."""

    def __init__(self, client: SyncPrefectClient, name: str) -> None:
        plain = f"cohobate_up_{re.sub('[^a-z0-9_]+', '_', name.lower())}"
        self.client = client
        # Names of deployments may differ in what the name of a variable cannot have.
        self.name = f"{plain[:_LONGEST]}_{hash_value(name)[:8]}"
        self.variable = client.read_variable_by_name(self.name)
        # As an earlier version called it.
        self.earlier = None if self.variable else client.read_variable_by_name(plain)
        source = self.variable or self.earlier
        value = source.value if source else {}
        values: dict[str, Any] = value if isinstance(value, dict) else {}
        self.fields, self.schedules = (_hashes(values.get(part)) for part in ("fields", "schedules"))

    @property
    def exists(self) -> bool:
        """Whether anything was set before."""
        return bool(self.variable or self.earlier)

    def save(self) -> None:
        """Write it, if it has changed."""
        value: dict[str, Any] = {"fields": self.fields, "schedules": self.schedules}
        if self.variable is None:
            self.variable = self.client.create_variable(VariableCreate(name=self.name, value=value, tags=["cohobate"]))
        elif self.variable.value != value:
            self.client.update_variable(VariableUpdate(name=self.name, value=value))
        if self.earlier is not None:  # or a deployment whose name was not told apart from this one's would take it too
            self.client.delete_variable_by_name(self.earlier.name)
            self.earlier = None


def _hashes(value: Any) -> dict[str, str]:
    return {str(key): str(each) for key, each in value.items()} if isinstance(value, dict) else {}


def provide(client: SyncPrefectClient, definition: Definition, folder: Path, *, reset: bool = False) -> list[str]:
    """Create or update one deployment, whose runs work in `folder`; sentences about what the operator has otherwise.

    reset: what was made here becomes as the definition has it, whatever the operator has done to it. Raises UserError
    for an entry point that is no flow, and for a schedule that is none.
    """
    flow = _flow(definition.entrypoint)
    record = Record(client, f"{flow.name}_{definition.name}")
    schedules = _schedules(definition)
    name = f"deployment {definition.name}"
    try:
        deployment = client.read_deployment_by_name(f"{flow.name}/{definition.name}")
    except ObjectNotFound:
        if record.exists and not reset:
            return [f"{name} was deleted; `cohobate up --reset` makes it again"]
        _create(client, flow, definition, folder, schedules)
        deployment = client.read_deployment_by_name(f"{flow.name}/{definition.name}")
        _remember(record, deployment, _desired(definition), schedules)
        return []
    sentences = _update(client, flow, definition, folder, deployment, record, reset=reset)
    sentences += _update_schedules(client, deployment, schedules, record, reset=reset)
    deployment = client.read_deployment_by_name(f"{flow.name}/{definition.name}")
    _remember(record, deployment, _desired(definition), schedules)
    if deployment.paused:
        sentences.append("is paused, and stays so")
    return [f"{name}: {sentence}" for sentence in sentences]


def _flow(entrypoint: str) -> Flow[..., Any]:
    try:
        flow = import_object(entrypoint)
    except Exception as error:
        if entrypoint.startswith("flows."):
            refuse_namesakes(Path.cwd())
        raise UserError(f"{entrypoint} cannot be imported ({type(error).__name__}: {error})") from None
    if not isinstance(flow, Flow):
        raise UserError(f"{entrypoint} is no flow of Prefect's")
    return flow


def _desired(definition: Definition) -> dict[str, Any]:
    limit = definition.concurrency_limit
    return {
        "description": definition.description.strip(),
        "parameters": definition.parameters,
        "tags": sorted(definition.tags),
        "concurrency": [limit.limit, limit.collision_strategy] if limit else None,
        "work_pool_name": definition.work_pool.name,
        "job_variables": definition.work_pool.job_variables,
    }


def _present(deployment: DeploymentResponse) -> dict[str, Any]:
    """The fields as the server has them now, in the form of `_desired`."""
    limit, options = deployment.global_concurrency_limit, deployment.concurrency_options
    strategy = options.collision_strategy.value if options else "ENQUEUE"
    return {
        "description": (deployment.description or "").strip(),
        "parameters": deployment.parameters,
        "tags": sorted(deployment.tags),
        "concurrency": [limit.limit, strategy] if limit else None,
        "work_pool_name": deployment.work_pool_name,
        "job_variables": deployment.job_variables,
    }


def _schedules(definition: Definition) -> dict[str, DeploymentScheduleCreate]:
    """By slug. Raises UserError."""
    made = {}
    for number, each in enumerate(definition.schedules, 1):
        slug = each.slug or f"cohobate-{number}"
        made[slug] = DeploymentScheduleCreate(
            schedule=_timetable(definition, each), active=each.active, parameters=each.parameters, slug=slug
        )
    return made


def _timetable(definition: Definition, schedule: Schedule) -> Any:
    times = {key: value for key in ("cron", "interval", "rrule") if (value := getattr(schedule, key)) is not None}
    if len(times) != 1:
        raise UserError(f"deployment {definition.name}: a schedule needs one of cron, interval and rrule")
    try:
        return construct_schedule(**times, timezone=schedule.timezone or "UTC")
    except ValueError as error:
        [(key, value)] = times.items()
        raise UserError(
            f"deployment {definition.name}: {key} '{value}' in time zone {schedule.timezone or 'UTC'} is no schedule "
            f"({_reason(error)})"
        ) from None


def _reason(error: ValueError) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return min((line.partition("[type=")[0].strip() for line in lines[-2:]), key=len)[:_SHOWN]


def _code(flow: Flow[..., Any], definition: Definition, folder: Path) -> dict[str, Any]:
    """The fields that are nobody's to change: where the code of the flow is, and the form of its parameters."""
    schema = parameter_schema(flow.fn).model_dump_for_openapi()
    return {
        "entrypoint": definition.entrypoint,
        "parameter_openapi_schema": schema,
        "pull_steps": definition.steps(folder),
    }


def _create(
    client: SyncPrefectClient,
    flow: Flow[..., Any],
    definition: Definition,
    folder: Path,
    schedules: Mapping[str, DeploymentScheduleCreate],
) -> None:
    limit = definition.concurrency_limit
    client.create_deployment(
        flow_id=client.create_flow_from_name(flow.name),
        name=definition.name,
        description=definition.description.strip(),
        parameters=definition.parameters,
        tags=definition.tags,
        concurrency_limit=limit.limit if limit else None,
        concurrency_options=_options(limit.collision_strategy) if limit else None,
        schedules=list(schedules.values()),
        work_pool_name=definition.work_pool.name,
        job_variables=definition.work_pool.job_variables,
        enforce_parameter_schema=True,
        **_code(flow, definition, folder),
    )


def _options(strategy: str) -> ConcurrencyOptions:
    return ConcurrencyOptions(collision_strategy=ConcurrencyLimitStrategy(strategy))


def _update(
    client: SyncPrefectClient,
    flow: Flow[..., Any],
    definition: Definition,
    folder: Path,
    deployment: DeploymentResponse,
    record: Record,
    *,
    reset: bool,
) -> list[str]:
    """Set what is the file's; sentences about what is the operator's."""
    code = _code(flow, definition, folder)
    changes = {key: value for key, value in code.items() if getattr(deployment, key) != value}
    desired, present, sentences = _desired(definition), _present(deployment), []
    for field in _FIELDS:
        if present[field] == desired[field]:
            continue
        if reset or record.fields.get(field) == hash_value(present[field]):
            changes |= _change(field, desired[field])
        else:
            sentences.append(differs(field, present[field], desired[field]))
    if changes:
        client.update_deployment(deployment.id, DeploymentUpdate(**changes))
    return sentences


def differs(field: str, present: Any, desired: Any) -> str:
    """Of job variables the names alone: their values may be secrets, and the sentence goes into logs."""
    if field == "job_variables":
        names = sorted(name for name in {*present, *desired} if present.get(name) != desired.get(name))
        return f"job variables stay as they are, where the file has others: {', '.join(names)}"
    return f"{_NAMES.get(field, field)} stays {_shown(present)}, which the file has as {_shown(desired)}"


def _change(field: str, value: Any) -> dict[str, Any]:
    if field != "concurrency":
        return {field: value}
    if value is None:
        return {"concurrency_limit": None, "concurrency_options": None}
    return {"concurrency_limit": value[0], "concurrency_options": _options(value[1])}


def _update_schedules(
    client: SyncPrefectClient,
    deployment: DeploymentResponse,
    desired: Mapping[str, DeploymentScheduleCreate],
    record: Record,
    *,
    reset: bool,
) -> list[str]:
    present = {each.slug: each for each in deployment.schedules if each.slug}
    sentences = []
    for slug, each in desired.items():
        there = present.get(slug)
        if there is None:
            equal = [other for other in deployment.schedules if _same(each, other)]
            if equal and not record.exists:  # as an earlier version made it, which kept no record
                client.update_deployment_schedule(deployment.id, equal[0].id, slug=slug)
            if equal:
                continue
            if reset or (record.exists and slug not in record.schedules):
                client.create_deployment_schedules(deployment.id, [each])
            else:
                sentences.append(f"the schedule '{time(each)}' of the file is not there, and stays away")
        elif not _same(each, there):
            if reset or record.schedules.get(slug) == _hash(there):
                client.update_deployment_schedule(
                    deployment.id, there.id, active=each.active, schedule=each.schedule, parameters=each.parameters
                )
            else:
                sentences.append(f"the schedule stays '{time(there)}', which the file has as '{time(each)}'")
    for slug in record.schedules.keys() - desired.keys():
        if slug in present and (reset or record.schedules[slug] == _hash(present[slug])):
            client.delete_deployment_schedule(deployment.id, present[slug].id)
    return sentences


def _remember(
    record: Record,
    deployment: DeploymentResponse,
    desired: Mapping[str, Any],
    schedules: Mapping[str, DeploymentScheduleCreate],
) -> None:
    """Record what is as it was wanted. What was recorded before of the rest stays, so that undoing a change counts."""
    present = _present(deployment)
    set_now = {field: hash_value(present[field]) for field in _FIELDS if present[field] == desired[field]}
    record.fields = {**record.fields, **set_now}
    earlier = {slug: value for slug, value in record.schedules.items() if slug in schedules}
    there = {each.slug: each for each in deployment.schedules if each.slug in schedules}
    equal = {str(slug): _hash(each) for slug, each in there.items() if slug and _same(schedules[slug], each)}
    record.schedules = {**earlier, **equal}
    record.save()


def _same(wanted: DeploymentScheduleCreate, there: Any) -> bool:
    """Whether a schedule of the server is the wanted one."""
    return _essence(wanted) == _essence(there)


def _essence(schedule: Any) -> list[Any]:
    timetable = schedule.schedule
    times = [str(getattr(timetable, key, None)) for key in ("cron", "interval", "rrule")]
    return [times, getattr(timetable, "timezone", None), bool(schedule.active), schedule.parameters or {}]


def _hash(schedule: DeploymentSchedule) -> str:
    """Of all that the operator can change."""
    values = schedule.model_dump(mode="json", include={"schedule", "active", "parameters", "max_scheduled_runs"})
    return hash_value(values)


def time(schedule: Any) -> str:
    """When a schedule of the server, or one to be made, starts runs."""
    times = (getattr(schedule.schedule, key, None) for key in ("cron", "rrule", "interval"))
    text = f"{next((str(each) for each in times if each), '?')} {getattr(schedule.schedule, 'timezone', '') or ''}"
    return f"{text.strip()}{'' if schedule.active else ', paused'}"


def timetables(deployment: DeploymentResponse) -> list[str]:
    """When the schedules of a deployment start runs."""
    return [time(each) for each in deployment.schedules]


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def provide_all(
    client: SyncPrefectClient, definitions: list[Definition], folder: Path, *, reset: bool = False
) -> Iterator[str]:
    """`provide` of each, sentence by sentence."""
    for definition in definitions:
        yield from provide(client, definition, folder, reset=reset)
