"""What any wire of an endpoint has: the form of its requests and replies, and the errors of an unusable reply."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar


class ReplyError(Exception):
    """A reply with status 200 that is unusable. `retry`: another attempt may help. `hopeless`: no request will do.

    no_api: what replies is no interface of a language model at all, such as a web page.
    """

    def __init__(
        self, error_class: str, message: str, *, retry: bool = True, hopeless: bool = False, no_api: bool = False
    ) -> None:
        super().__init__(message)
        self.error_class, self.hopeless, self.no_api = error_class, hopeless, no_api
        self.retry = retry and not hopeless


@dataclass(frozen=True)
class Timing:
    """The number of attempts that a request took, and the milliseconds of the last one."""

    attempts: int
    milliseconds: float


@dataclass(frozen=True)
class FailureCause:
    """The reason why a request is not tried again; `status` is that of HTTP, where a server replied."""

    error_class: str
    status: int | None
    message: str
    attempts: int


Q_contra = TypeVar("Q_contra", contravariant=True)
A_co = TypeVar("A_co", covariant=True)


class Wire(Protocol[Q_contra, A_co]):
    """The JSON form of one kind of request, and of the replies to it."""

    @property
    def path(self) -> str:
        """The route behind the base_url."""
        ...

    def body(self, request: Q_contra) -> dict[str, Any]:
        """The JSON body of `request`."""
        ...

    def parameters(self, request: Q_contra) -> Collection[str]:
        """The parameters of its body that a recipe can change or leave out."""
        ...

    def longest_body(self, request: Q_contra) -> int:
        """The bytes beyond which no reply to `request` makes sense; nor do more than so many bytes / 32 values."""
        ...

    def outcome(self, request: Q_contra, payload: Any, timing: Timing) -> A_co:
        """The outcome in a parsed response body. Raises ReplyError for an unusable one."""
        ...

    def failure(self, request: Q_contra, cause: FailureCause) -> A_co:
        """The outcome of a request without a usable reply."""
        ...
