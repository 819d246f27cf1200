"""Versions that are known not to work together: what pyproject.toml pins, and what one sees without the pin."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata

from packaging.requirements import InvalidRequirement, Requirement
from packaging.version import InvalidVersion

DISTRIBUTION = "cohobate"
# By package: what happens with a version that its pin excludes. The pins themselves are those of the distribution.
REASONS = {
    "fastapi": "Prefect's server does not start (0.151 dropped Body(min_items=...), which it uses)",
    "sqlalchemy": "Prefect runs, but never creates scheduled runs",
    "torch": "numbers may differ from the shipped ones in the last bits",
    "transformers": "models are loaded by other arguments",
    "math-verify": "some answers may be judged otherwise, under the same name",
    "prefect": "flows and the server have another interface",
}
# Outside of the distribution's requirements, since it stands in an environment of its own.
VLLM = "vllm==0.32.*"
VLLM_REASON = "its Python interface changes from one release to the next, and the tests run that one"


@dataclass(frozen=True)
class Conflict:
    """A requirement that is not met: by the installed `version`, or (None) since nothing is installed."""

    requirement: Requirement
    version: str | None

    @property
    def sentence(self) -> str:
        """What is there, what should be, and what one sees."""
        need = f"{self.requirement.name}{self.requirement.specifier}"
        if self.version is None:
            return f"{self.requirement.name} is not installed; {need} is needed"
        reason = REASONS.get(self.requirement.name.lower().replace("_", "-"))
        sentence = f"{self.requirement.name} {self.version} is installed, and {need} is needed"
        return f"{sentence}; with another one, {reason}" if reason else sentence

    @property
    def mend(self) -> str:
        """The command that installs what is needed."""
        extras = f"[{','.join(sorted(self.requirement.extras))}]" if self.requirement.extras else ""
        return f"pip install '{self.requirement.name}{extras}{self.requirement.specifier}'"


Version = Callable[[str], str | None]


def installed(name: str) -> str | None:
    """The version of a distribution of this environment; None where it is not there."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def requirements(extra: str = "") -> list[Requirement]:
    """What cohobate requires here, or what one of its extras adds."""
    written = metadata.requires(DISTRIBUTION) or []
    every = [requirement for text in written if (requirement := _parsed(text)) is not None]
    if not extra:
        return [each for each in every if each.marker is None or each.marker.evaluate({"extra": ""})]
    return [
        each
        for each in every
        if each.marker is not None
        and each.marker.evaluate({"extra": extra})
        and not each.marker.evaluate({"extra": ""})
    ]


def extras() -> list[str]:
    """The extras for users."""
    names = metadata.metadata(DISTRIBUTION).get_all("Provides-Extra") or []
    return sorted(name for name in names if name != "dev")


def conflicts(needed: list[Requirement], version: Version = installed) -> Iterator[Conflict]:
    """Those of `needed` that are not met. version: of a distribution's name."""
    for requirement in needed:
        there = version(requirement.name)
        if there is None or not meets(requirement, there):
            yield Conflict(requirement, there)


def _parsed(text: str) -> Requirement | None:
    try:
        return Requirement(text)
    except InvalidRequirement:
        return None


def meets(requirement: Requirement, version: str) -> bool:
    """Whether a version is one of those that are required; what is no version is none."""
    try:  # 2.13.0+cpu is 2.13.0
        return requirement.specifier.contains(version.split("+", maxsplit=1)[0], prereleases=True)
    except InvalidVersion:
        return False
