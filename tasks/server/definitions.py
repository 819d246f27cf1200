"""What prefect.yaml says of deployments, typed. Imports no Prefect."""

import os
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from cohobate.config.load import sentence
from cohobate.core.errors import UserError

_LONGEST = 1 << 20  # bytes of a prefect.yaml
FILE = "prefect.yaml"
_DIRECTORY = "prefect.deployments.steps.set_working_directory"


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Concurrency(_Entry):
    """How many runs of a deployment work at the same time, and what becomes of one more."""

    limit: int = Field(ge=1)
    collision_strategy: Literal["ENQUEUE", "CANCEL_NEW"] = "ENQUEUE"


class Schedule(_Entry):
    """When a deployment runs by itself: one of cron, interval (seconds) and rrule."""

    cron: str | None = None
    interval: float | None = Field(None, gt=0)
    rrule: str | None = None
    timezone: str | None = None
    active: bool = True
    slug: str | None = None
    parameters: dict[str, Any] = {}


class Pool(_Entry):
    """The work pool, and what its workers are told of a run."""

    name: str
    job_variables: dict[str, Any] = {}


class Definition(_Entry):
    """One deployment. entrypoint: module.function, or file.py:function below the working folder of `up`.

    pull: steps that a worker takes first; None: it goes to the folder in which `up` works.
    """

    name: str = Field(min_length=1)
    entrypoint: str = Field(pattern=r"^[^:]+([.:])[A-Za-z_]\w*$")
    description: str = ""
    parameters: dict[str, Any] = {}
    tags: list[str] = []
    concurrency_limit: Concurrency | None = None
    schedules: list[Schedule] = []
    work_pool: Pool
    pull: list[dict[str, Any]] | None = None

    @field_validator("concurrency_limit", mode="before")
    @classmethod
    def _from_number(cls, value: Any) -> Any:
        return {"limit": value} if isinstance(value, int) else value

    def steps(self, folder: Path) -> list[dict[str, Any]]:
        """The steps that a worker takes first, where `up` works in `folder`."""
        return self.pull if self.pull is not None else [{_DIRECTORY: {"directory": str(folder)}}]


class _File(BaseModel):
    model_config = ConfigDict(extra="ignore")  # name, prefect-version and definitions are Prefect's and YAML's own

    deployments: list[Definition]
    pull: list[dict[str, Any]] | None = None


def find() -> Path:
    """prefect.yaml of the working folder, else the shipped one."""
    own, shipped = Path.cwd() / FILE, Path(__file__).parents[2] / FILE
    return own if own.is_file() else shipped


def read(path: Path) -> list[Definition]:
    """The deployments of a prefect.yaml. Raises UserError, in one sentence, for anything that is not understood."""
    try:
        with path.open("rb") as file:
            values = yaml.safe_load(file.read(_LONGEST))
        file_content = _File.model_validate(values)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        what = sentence(error, _File) if isinstance(error, ValidationError) else " ".join(str(error).split())[:200]
        advice = "`prefect deploy` understands more" if isinstance(error, ValidationError) else "mend it"
        raise UserError(f"{path} cannot be used: {what}; {advice}") from None
    names = [(each.entrypoint, each.name) for each in file_content.deployments]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise UserError(f"{path} has two deployments {twice[1]} of {twice[0]}; give one another name")
    if file_content.pull is None:
        return file_content.deployments
    return [Definition.model_validate({"pull": file_content.pull, **_given(each)}) for each in file_content.deployments]


def refuse_namesakes(folder: Path) -> None:
    """Raise UserError where `folder` has a module of the name of flows or tasks, and is not where those are.

    Prefect imports the flow of a run from the folder in which the run works before it looks anywhere else.
    """
    if folder.resolve() == Path(__file__).resolve().parents[2]:
        return
    for name in ("flows", "tasks"):
        if (folder / name / "__init__.py").is_file() or (folder / f"{name}.py").is_file():
            raise UserError(
                f"{folder} has a module '{name}' of its own, which Prefect would import there in place of cohobate's; "
                "let the runs work in another folder"
            )


def _given(definition: Definition) -> dict[str, Any]:
    return definition.model_dump(exclude_unset=True)


def working_folder() -> Path:
    """Where runs of deployments work: the folder in which `up` was started."""
    return Path(os.getcwd())  # noqa: PTH109 - as a shell names it, not resolved
