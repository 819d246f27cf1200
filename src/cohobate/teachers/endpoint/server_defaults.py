"""The defaults of a server: it must add nothing to the sampling of a request, and serve the model that is named.

Parameters that a recipe leaves neutral are not sent, since not every server knows them. Servers of llama.cpp then cut
the distribution by themselves, and some penalise repetitions: even greedy responses are not the model's. They also
accept requests for any model name.
"""

from __future__ import annotations

from typing import Any

from cohobate.config import Teacher
from cohobate.core.errors import EndpointError
from cohobate.core.sanitize import one_line
from cohobate.teachers.base import Request
from cohobate.teachers.endpoint.chat_completions import ChatWire
from cohobate.teachers.endpoint.http import read_json
from cohobate.teachers.endpoint.served_model import is_same_model

# Values that leave the model's distribution as it is; the first is proposed in messages.
_CUTS: dict[str, tuple[float, ...]] = {"top_p": (1,), "top_k": (0, -1), "min_p": (0,)}
_PENALTIES: dict[str, tuple[float, ...]] = {
    "repeat_penalty": (1,),
    "repetition_penalty": (1,),
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
}
# The owners of models in the lists of llama-cpp-python and of llama.cpp, which serve their model under any name.
_ANY_NAME = {"me", "llamacpp"}


def require_neutral_defaults(teacher: Teacher, request: Request) -> str:
    """The finding in one phrase.

    Raises EndpointError where a server adds sampling parameters to `request`, or serves another model.
    """
    published = False
    for url in teacher.base_urls:
        _require_model(teacher, url)
        defaults = _defaults(url)
        published = published or defaults is not None
        _require_neutral(teacher, request, url, defaults or {})
    return "adds nothing to a request" if published else "does not say what it adds to a request"


def served_models(teacher: Teacher) -> list[str]:
    """The models that the first of its servers lists. Raises EndpointError where nothing listens."""
    return [_name(model) for model in _listed(teacher, teacher.base_urls[0])]


def neutral_settings(teacher: Teacher) -> dict[str, float]:
    """What `teacher.extra` must hold for its first server to add nothing to a sampled request, as far as it tells."""
    url = teacher.base_urls[0]
    if any(model.get("owned_by") == "vllm" for model in _listed(teacher, url)):
        return {"top_p": 1.0, "top_k": -1}  # else those of the model's generation_config.json, which it does not tell
    shaping, defaults = {**_CUTS, **_PENALTIES}, _defaults(url) or {}
    return {
        name: float(neutral[0]) if name != "top_k" else int(neutral[0])
        for name, neutral in shaping.items()
        if isinstance(defaults.get(name), int | float) and defaults[name] not in neutral
    }


def _listed(teacher: Teacher, url: str) -> list[dict[str, Any]]:
    listing = read_json(f"{url.rstrip('/')}/models", teacher)
    models = listing.get("data") if isinstance(listing, dict) else None
    return [model for model in models if isinstance(model, dict)] if isinstance(models, list) else []


def _name(model: dict[str, Any]) -> str:
    return one_line(model.get("id"))[:200]


def _require_model(teacher: Teacher, url: str) -> None:
    names = [_name(model) for model in _listed(teacher, url) if str(model.get("owned_by")) in _ANY_NAME]
    if names and not any(is_same_model(name, teacher.served_as or teacher.model) for name in names):
        raise EndpointError(
            f"{url} serves '{', '.join(names)}' and answers to any name, '{teacher.model}' too; correct "
            f"{teacher.section}.model, or start it with that name"
        )


def _require_neutral(teacher: Teacher, request: Request, url: str, defaults: dict[str, Any]) -> None:
    sent = ChatWire(teacher).body(request)
    shaping = _PENALTIES if request.temperature == 0 else {**_CUTS, **_PENALTIES}
    added = {
        name: defaults[name]
        for name, neutral in shaping.items()
        if name not in sent and isinstance(defaults.get(name), int | float) and defaults[name] not in neutral
    }
    if added:
        values = ", ".join(f"{name} {value:.3g}" for name, value in added.items())
        remedy = ", ".join(f"{name} = {shaping[name][0]}" for name in added)
        raise EndpointError(
            f"{url} shapes responses by itself where the recipe says nothing ({values}); set {teacher.section}.extra = "
            f"{{{remedy}}}"
        )


def _defaults(url: str) -> dict[str, Any] | None:
    """The server's sampling parameters where a request names none; None where it does not publish them."""
    root = url.rstrip("/").removesuffix("/v1")
    schema = read_json(f"{root}/openapi.json")  # of llama-cpp-python
    try:
        properties = schema["components"]["schemas"]["CreateChatCompletionRequest"]["properties"]
        return {name: each.get("default") for name, each in properties.items()}
    except (LookupError, TypeError, AttributeError):
        pass
    props = read_json(f"{root}/props")  # of llama.cpp
    try:
        return dict(props["default_generation_settings"]["params"])
    except (LookupError, TypeError, ValueError):
        return None
