"""The decision on the faults of a server: go on, or stop with a reason."""

from __future__ import annotations

from cohobate.config import Teacher
from cohobate.core.errors import EndpointError, TeacherError
from cohobate.core.formatting import duration
from cohobate.teachers.endpoint.fault import Fault

_WATCHED = 20  # as many faults of one kind at the beginning are no accident
_WATCHED_SETTINGS = 3  # the parameters of all requests are the same


class ServerWatch:
    """Watches the faults of one server until its first reply: mistakes in the recipe show there."""

    def __init__(self, url: str, teacher: Teacher) -> None:
        self.url, self.teacher = url, teacher
        self.has_replied = False
        self._faults: list[Fault] = []
        self._waits = 0  # since the last reply

    def verdict(self, fault: Fault) -> TeacherError | EndpointError | None:
        """The error to stop with, if it is no use to go on after `fault`."""
        if fault.status == 401 or fault.spent or (fault.status == 403 and not self.has_replied):
            return EndpointError(self._denied(fault))
        if fault.hopeless:
            return EndpointError(f"{self.url} {fault.message}")
        if self.has_replied:
            return None
        section = self.teacher.section
        if fault.no_api:
            return EndpointError(f"{self.url} is no interface of a model ({fault.message}); correct {section}.base_url")
        if fault.status == 404:
            return EndpointError(
                f"{self.url} has no model '{self.teacher.model}' ({fault.message}); correct {section}.model, or "
                f"{section}.base_url"
            )
        self._faults.append(fault)
        if sum(item.advice is not None for item in self._faults) >= _WATCHED_SETTINGS:
            return self._rejects_all(fault)
        return self._systematic(fault) if len(self._faults) >= _WATCHED else None

    def give_up_waiting(self, fault: Fault, wait: float) -> TeacherError | None:
        """Count a request that the server asks to wait for too long; the error to stop with, if it is time to."""
        self._waits += 1
        if self._waits < _WATCHED:
            return None
        return TeacherError(
            f"{self.url} asks to wait {duration(wait)} (status {fault.status}: {fault.message}); run again then, which "
            f"asks only for the rest, or raise {self.teacher.limits_section}.max_wait"
        )

    def count_reply(self) -> None:
        """Count a usable reply."""
        self.has_replied, self._waits = True, 0

    def _denied(self, fault: Fault) -> str:
        if fault.spent:
            return f"{self.url} refuses since the account is spent ({fault.message}); top it up and run again"
        name, section = self.teacher.api_key_env, self.teacher.section
        advice = (
            f"put a valid key into {name}" if name else f"name the key's environment variable in {section}.api_key_env"
        )
        return f"{self.url} does not let us in (status {fault.status}: {fault.message}); {advice}"

    def _systematic(self, fault: Fault) -> TeacherError | EndpointError | None:
        section, limits = self.teacher.section, self.teacher.limits_section
        kinds, count = {item.error_class for item in self._faults}, len(self._faults)
        if kinds == {"EmptyContent"}:
            return TeacherError(
                f"the first {count} responses of {self.url} are all empty; look at {section}.prompt and the server's "
                f"chat template, or raise {limits}.max_tokens"
            )
        if kinds == {"WrongModel"}:
            return EndpointError(
                f"{self.url}: {fault.message}, {count} times in a row; correct {section}.model, or say in "
                f"{section}.served_as which name the responses carry"
            )
        if kinds == {"MalformedReply"}:
            return EndpointError(
                f"none of the first {count} replies of {self.url} is a completion ({fault.message}); correct "
                f"{section}.base_url"
            )
        return None if any(item.retry for item in self._faults) else self._rejects_all(fault)

    def _rejects_all(self, fault: Fault) -> EndpointError:
        section, limits = self.teacher.section, self.teacher.limits_section
        remedy = fault.advice or f"correct what it names in [{section}] or [{limits}]"
        status = "" if fault.status is None else f"status {fault.status}: "
        return EndpointError(
            f"{self.url} rejects all of the first {len(self._faults)} requests ({status}{fault.message}); {remedy}"
        )
