"""[teacher], and the sampling that fits it, of a folder, an Ollama model or the address of a server."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from cohobate.config import Teacher
from cohobate.config.load import make_section
from cohobate.core.errors import EndpointError, EngineError, ModelError, RecipeError
from cohobate.core.model_shape import context_of
from cohobate.stages.hardware import Hardware
from cohobate.stages.proposal.wishes import Wishes

OLLAMA = "ollama:"
_OLLAMA_PORT = 11434
# Hosts that need a key, and the variable that their own documentation names for it.
_KEYS = {
    "api.openai.com": "OPENAI_API_KEY",
    "openrouter.ai": "OPENROUTER_API_KEY",
    "api.deepseek.com": "DEEPSEEK_API_KEY",
    "api.mistral.ai": "MISTRAL_API_KEY",
    "api.together.xyz": "TOGETHER_API_KEY",
    "api.groq.com": "GROQ_API_KEY",
    "api.fireworks.ai": "FIREWORKS_API_KEY",
    "generativelanguage.googleapis.com": "GEMINI_API_KEY",
}
_RENAMED_LIMIT = ("api.openai.com",)  # which calls the limit max_completion_tokens
# Tokens of the longest response.
_SHORT, _PLAIN, _THINKING = 256, 1024, 4096
_WORLD = "world/"


@dataclass(frozen=True)
class TeacherPlan:
    """section: of [teacher]. sampling: of [triples]. notes: why, for comments by key."""

    section: dict[str, Any]
    sampling: dict[str, Any]
    notes: dict[str, str]

    @property
    def is_folder(self) -> bool:
        return self.section.get("kind") != "endpoint"

    @property
    def is_world(self) -> bool:
        """Whether it is a shipped model, which was trained on the default prompt."""
        return self.is_folder and str(self.section["model"]).startswith(_WORLD)


def is_server(name: str) -> bool:
    """Whether a teacher of this name is no folder."""
    return "://" in name or name.strip().startswith(OLLAMA)


def plan(wishes: Wishes, hardware: Hardware) -> TeacherPlan:
    """The teacher that `wishes` names. Raises ModelError, EndpointError or RecipeError."""
    name = wishes.teacher.strip()
    if name.startswith(OLLAMA):
        return _ollama(name.removeprefix(OLLAMA), wishes)
    if "://" in name:
        return _server(name.rstrip("/"), wishes)
    of_server = {"--teacher-model": wishes.teacher_model, "--key-env": wishes.key_env, "--price": wishes.price}
    for option, value in of_server.items():
        if value:
            raise RecipeError(f"{option} is for a server, and the teacher {name} is a folder; leave it out")
    return _folder(name, hardware)


def _ollama(model: str, wishes: Wishes) -> TeacherPlan:
    if not model:
        raise RecipeError("ollama: needs a model behind it, as `ollama list` names it, such as ollama:qwen3:8b")
    for option, value in (("--teacher-model", wishes.teacher_model), ("--price", wishes.price)):
        if value:
            raise RecipeError(
                f"{option} is for the address of a server, and the teacher is ollama:{model}; leave it out"
            )
    url = f"http://localhost:{_OLLAMA_PORT}/v1"
    section = {"kind": "endpoint", "model": model, "provider": "ollama", "base_url": url}
    if wishes.key_env:
        section["api_key_env"] = wishes.key_env
    notes = {
        "model": f"first: ollama pull {model}",
        "max_tokens": "with the prompt it must fit Ollama's context: OLLAMA_CONTEXT_LENGTH=8192 ollama serve",
        "concurrency": "Ollama works on OLLAMA_NUM_PARALLEL requests at a time",
    }
    return TeacherPlan(section, {"temperature": 1.0, "max_tokens": 2048, "concurrency": 4}, notes)


def _server(url: str, wishes: Wishes) -> TeacherPlan:
    from cohobate.teachers.endpoint.server_defaults import neutral_settings, served_models

    try:
        parts = urlsplit(url)
    except ValueError:  # which says only what brackets are for
        raise RecipeError(f"--teacher {url} is no address; write it as http://HOST:PORT/v1") from None
    host = parts.hostname or ""
    if not parts.path:
        url += "/v1"
    key_env = wishes.key_env or _KEYS.get(host)
    section: dict[str, Any] = {"kind": "endpoint", "model": wishes.teacher_model or "", "base_url": url}
    if key_env:
        section["api_key_env"] = key_env
    notes = {"model": "the name that the server knows", "api_key_env": "the variable's name, never the key"}
    local = host in ("localhost", "127.0.0.1", "::1")
    if not wishes.teacher_model:
        section["model"] = _only_model(url, served_models(make_section(Teacher, section, "the teacher")))
    if not local:
        section["provider"] = host
    if host in _RENAMED_LIMIT:
        section["limit_name"] = "max_completion_tokens"
    if wishes.price:
        section["price_input"], section["price_output"] = wishes.price
        notes["price_input"] = "USD per million tokens"
    with suppress(EndpointError):  # preflight says that nothing answers
        if extra := neutral_settings(make_section(Teacher, section, "the teacher")) if local else {}:
            section["extra"] = extra
            notes["extra"] = "else this server would shape the responses by itself"
    sampling = {"temperature": 1.0, "max_tokens": 2048 if local else _THINKING, "concurrency": 16 if local else 32}
    return TeacherPlan(section, sampling, notes)


def _only_model(url: str, names: list[str]) -> str:
    if len(names) == 1:
        return names[0]
    listed = f"it serves {', '.join(names[:8])}" if names else "it does not list any"
    raise EndpointError(f"{url}: which of its models is the teacher? {listed}; name it with --teacher-model")


def _folder(name: str, hardware: Hardware) -> TeacherPlan:
    from cohobate.stages.taught import shape

    config = shape(name)  # refuses what is no model
    if name.startswith(_WORLD):
        return TeacherPlan({"model": name}, {"temperature": 1.0, "max_tokens": 128}, {})
    section: dict[str, Any] = {"model": name}
    notes: dict[str, str] = {}
    if hardware.device == "cuda" and _has_vllm():
        section = {"kind": "vllm", **section}
        notes["kind"] = "local: through transformers, slower"
    sampling, own = _recommended(name)
    if own:
        notes["temperature"] = "as the model's generation_config.json recommends"
    longest = _THINKING if _thinks(name) else _PLAIN
    longest = min(longest, _SHORT) if hardware.device == "cpu" else longest
    context = context_of(config)
    sampling["max_tokens"] = longest if context is None else max(1, min(longest, context // 2))
    return TeacherPlan(section, sampling, notes)


def _has_vllm() -> bool:
    from cohobate.teachers.vllm.install import find

    try:
        find()
    except EngineError:
        return False
    return True


def _recommended(name: str) -> tuple[dict[str, Any], bool]:
    """The sampling of the model's generation config, and whether it gives one."""
    values = _json_of(name, "generation_config.json")
    numbers = {key: values[key] for key in ("temperature", "top_p", "top_k") if _is_positive(values.get(key))}
    if values.get("do_sample") and numbers:
        return {"temperature": 1.0, **numbers}, True
    return {"temperature": 0.7}, False


def _is_positive(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value > 0


def _thinks(name: str) -> bool:
    """Whether the model's chat template opens thoughts."""
    from cohobate.models.loading import model_path

    with suppress(ModelError, OSError, UnicodeDecodeError):
        folder = model_path(name)
        files = [folder / "chat_template.jinja", folder / "tokenizer_config.json"]
        return any("<think>" in file.read_text(encoding="utf-8") for file in files if file.is_file())
    return False


def _json_of(name: str, file: str) -> dict[str, Any]:
    from cohobate.models.loading import model_path

    with suppress(ModelError, OSError, ValueError):
        values = json.loads((model_path(name) / file).read_text(encoding="utf-8"))
        return values if isinstance(values, dict) else {}
    return {}
