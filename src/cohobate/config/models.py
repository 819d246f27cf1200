"""Teacher and student."""

import re
from typing import Annotated, ClassVar, Literal, Self
from urllib.parse import SplitResult, urlsplit

from pydantic import AfterValidator, Field, JsonValue, model_validator

from cohobate.config.base import EXECUTION, Prompt, Section


def _no_secret(name: str | None) -> str | None:
    """The message never repeats the value: whoever makes this mistake has pasted a key."""
    if name is not None and not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
        raise ValueError("give the name of an environment variable that holds the key, not the key itself")
    return name


# Names of parameters that carry a key, and what a key looks like; `extra` is recorded with every request.
_SECRET_NAME = re.compile(r"(?i)(^|[_-])(api[_-]?key|authorization|bearer|password|secret|(access|auth)[_-]?token)$")
_SECRET_VALUE = re.compile(r"(?i)bearer\s+\S|sk-[\w-]{8}|hf_\w{16}")
# What a request says by itself: an extra one would break the reply, or belie what is recorded about the sample.
_OWN_PARAMETERS = {"model", "messages", "n", "stream"}
_RECORDED_PARAMETERS = {"temperature", "top_p", "top_k", "seed", "max_tokens", "max_completion_tokens"}


def _holds_secret(value: object) -> bool:
    if isinstance(value, dict):
        return any(_SECRET_NAME.search(name) or _holds_secret(held) for name, held in value.items())
    if isinstance(value, list):
        return any(_holds_secret(held) for held in value)
    return isinstance(value, str) and bool(_SECRET_VALUE.match(value))


def _no_secret_parameter(extra: dict[str, JsonValue]) -> dict[str, JsonValue]:
    """The message names no value: it may be the key."""
    if _holds_secret(extra):
        raise ValueError("further parameters must not carry a key; name its environment variable in api_key_env")
    return extra


def _has_possible_port(parts: SplitResult) -> bool:
    try:
        return parts.port != 0
    except ValueError:  # no number, or above 65535
        return False


def _addresses(given: str | list[str] | None) -> str | list[str] | None:
    for url in [given] if isinstance(given, str) else given or []:
        parts = urlsplit(url)
        if "@" in url or parts.query or parts.fragment:
            raise ValueError("an address must not carry a key; name the key's environment variable in api_key_env")
        if parts.scheme not in ("http", "https") or not parts.hostname or not _has_possible_port(parts):
            raise ValueError(f"'{url}' is no address; write it as http://HOST:PORT/v1")
        if parts.path.rstrip("/").endswith("/completions"):
            raise ValueError(f"'{url}' is too long; end it before /chat/completions, usually with /v1")
    return given


class Teacher(Section):
    """The model that is distilled."""

    section: ClassVar[str] = "teacher"
    limits_section: ClassVar[str] = "triples"
    """What messages call this section, and that of the limits of its requests."""
    recorded: ClassVar[set[str]] = _RECORDED_PARAMETERS
    """Parameters that stand beside each sample, and so may not be set behind its back."""

    kind: Literal["local", "endpoint"] = "local"
    """local: in this process, through transformers. endpoint: an OpenAI-compatible server at `base_url`."""
    model: Annotated[str, EXECUTION] = "world/teacher"
    """local: a Hugging Face folder, or a shipped name; identified by the content of its files. endpoint: the name
    that the server knows it by; `provider`, this name and `revision` identify it, wherever it is served."""
    prompt: Prompt = "{question} Think step by step."
    """The user message; {question} is replaced."""
    system: str | None = None
    """A system message, if any."""
    base_url: Annotated[str | list[str] | None, AfterValidator(_addresses), EXECUTION] = None
    """endpoint: its address, up to /v1; or the addresses of several replicas, which share the work."""
    api_key_env: Annotated[str | None, AfterValidator(_no_secret), EXECUTION] = None
    """endpoint: name of the environment variable that holds the key."""
    provider: str | None = None
    """endpoint: who serves it, in your words: the same name at another provider is another teacher."""
    revision: str | None = None
    """endpoint: which version of the model, in your words."""
    served_as: str | None = None
    """endpoint: the model name that its responses carry, where that is another than `model`."""
    extra: Annotated[dict[str, JsonValue], AfterValidator(_no_secret_parameter)] = {}
    """endpoint: further parameters of each request, such as reasoning_effort, response_format, min_p."""
    limit_name: Annotated[Literal["max_tokens", "max_completion_tokens"], EXECUTION] = "max_tokens"
    """endpoint: what it calls the limit of a response."""
    price_input: Annotated[float | None, Field(ge=0), EXECUTION] = None
    """endpoint: USD per million prompt tokens; an artifact keeps the costs it was made with."""
    price_output: Annotated[float | None, Field(ge=0), EXECUTION] = None
    """endpoint: USD per million completion tokens, reasoning included."""

    @property
    def base_urls(self) -> list[str]:
        """The addresses, one a replica."""
        return [self.base_url] if isinstance(self.base_url, str) else self.base_url or []

    @model_validator(mode="after")
    def _reachable(self) -> Self:
        if self.kind == "local" and (self.base_url or self.api_key_env):
            raise ValueError("base_url and api_key_env belong to an endpoint; set kind = 'endpoint'")
        if self.kind == "endpoint" and not self.base_urls:
            raise ValueError("kind = 'endpoint' needs base_url, such as http://localhost:8000/v1")
        if self.kind == "endpoint" and "model" not in self.model_fields_set:
            raise ValueError("kind = 'endpoint' needs model, the name that the server knows it by")
        if taken := sorted((_OWN_PARAMETERS | self.recorded) & set(self.extra)):
            raise ValueError(
                f"extra.{taken[0]} is set by cohobate itself, from model, prompt and [{self.limits_section}]"
            )
        if (self.price_input is None) != (self.price_output is None):
            raise ValueError("price_input and price_output belong together; give both, 0 for what is free")
        return self


class Student(Section):
    """The model that learns."""

    model: Annotated[str, EXECUTION] = "world/base"
    """A Hugging Face folder, or a shipped name; identified by the content of its files."""
    prompt: Prompt = "{question}"
    """The user message; {question} is replaced."""
    system: str | None = None
    """A system message, if any."""
