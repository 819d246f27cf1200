"""Whether a server does what a request says, and no more.

What a recipe leaves neutral is not sent, since not every server knows it. Servers of llama.cpp then cut the
distribution, and some penalise repetitions: even greedy responses are not the model's. They also answer under whatever
model name they are asked for.
"""

from __future__ import annotations

from typing import Any

from cohobate.config import Teacher
from cohobate.core.errors import EndpointError
from cohobate.teachers.base import Request
from cohobate.teachers.endpoint.chat_completions import ReplyError, body, refuse_other_model
from cohobate.teachers.endpoint.http import read_json

# Values that leave the model's distribution as it is, the one to ask for first.
_CUTS: dict[str, tuple[float, ...]] = {"top_p": (1,), "top_k": (0, -1), "min_p": (0,)}
_PENALTIES: dict[str, tuple[float, ...]] = {
    "repeat_penalty": (1,),
    "repetition_penalty": (1,),
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
}
# Who lists its model as owned by these, of llama-cpp-python and of llama.cpp, answers under any name.
_ANY_NAME = {"me", "llamacpp"}


def require_as_asked(settings: Teacher, request: Request) -> str:
    """Raises EndpointError where a server adds to `request` what the recipe does not say, or serves another model."""
    told = False
    for url in settings.base_urls:
        _require_model(settings, url)
        defaults = _defaults(url)
        told = told or defaults is not None
        _require_neutral(settings, request, url, defaults or {})
    return "adds nothing to a request" if told else "does not say what it adds to a request"


def _require_model(settings: Teacher, url: str) -> None:
    listed = read_json(f"{url.rstrip('/')}/models", settings)
    models = listed.get("data") if isinstance(listed, dict) else None
    found = [model for model in models or [] if isinstance(model, dict) and model.get("owned_by") in _ANY_NAME]
    names = [str(model.get("id")) for model in found]
    if names and not any(_is_asked(name, settings) for name in names):
        raise EndpointError(
            f"{url} serves '{', '.join(names)}' and answers to any name, '{settings.model}' too; correct "
            f"{settings.section}.model, or start it with that name"
        )


def _is_asked(name: str, settings: Teacher) -> bool:
    try:
        refuse_other_model(name, settings)
    except ReplyError:
        return False
    return True


def _require_neutral(settings: Teacher, request: Request, url: str, defaults: dict[str, Any]) -> None:
    sent = body(request, settings)
    shaping = _PENALTIES if request.temperature == 0 else {**_CUTS, **_PENALTIES}
    added = {
        name: defaults[name]
        for name, neutral in shaping.items()
        if name not in sent and isinstance(defaults.get(name), int | float) and defaults[name] not in neutral
    }
    if added:
        said = ", ".join(f"{name} {value:.3g}" for name, value in added.items())
        needed = ", ".join(f"{name} = {shaping[name][0]}" for name in added)
        raise EndpointError(
            f"{url} shapes responses by itself where the recipe says nothing ({said}); set {settings.section}.extra = "
            f"{{{needed}}}"
        )


def _defaults(url: str) -> dict[str, Any] | None:
    """What the server takes where a request says nothing; None where it does not tell."""
    root = url.rstrip("/").removesuffix("/v1")
    schema = read_json(f"{root}/openapi.json")  # of llama-cpp-python
    try:
        named = schema["components"]["schemas"]["CreateChatCompletionRequest"]["properties"]
        return {name: given.get("default") for name, given in named.items()}
    except (LookupError, TypeError, AttributeError):
        pass
    props = read_json(f"{root}/props")  # of llama.cpp
    try:
        found: dict[str, Any] = props["default_generation_settings"]["params"]
        return dict(found)
    except (LookupError, TypeError, ValueError):
        return None
