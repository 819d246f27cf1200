"""A trained model as a GGUF file with a Modelfile, for llama.cpp and Ollama, written by llama.cpp's own converter.

The converter is not ours: `make llama` puts it beside llama-cpp-python, or COHOBATE_LLAMA_CPP names a checkout.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cohobate.core.errors import ExportError
from cohobate.datasets.export.model_card import CARD, Copied, copied, model_card, publishing, trained_model
from cohobate.store.artifacts import Artifact

TYPES = ("f32", "f16", "bf16", "q8_0")
"""Numbers in the file: whole, halves, or 8-bit blocks."""
LLAMA_CPP = "COHOBATE_LLAMA_CPP"
MODELFILE, WEIGHTS = "Modelfile", "model.gguf"
_CONVERTER = "convert_hf_to_gguf.py"
_CONTEXT = 8192  # tokens that Ollama keeps room for; fewer where the model takes fewer
_SYSTEM, _USER, _REPLY = "\ue000system\ue001", "\ue000user\ue001", "\ue000reply\ue001"


def converter() -> Path:
    """llama.cpp's program. Raises ExportError, which says how to get it."""
    named = os.environ.get(LLAMA_CPP)
    folder = Path(named) if named else Path(sys.prefix).with_name(f"{Path(sys.prefix).name}-llama") / "llama.cpp"
    if not (folder / _CONVERTER).is_file():
        raise ExportError(
            f"there is no {_CONVERTER} in {folder}; run `make llama` in the repository, or set {LLAMA_CPP} to a "
            "checkout of llama.cpp"
        )
    return folder / _CONVERTER


def default_folder(artifact: Artifact) -> Path:
    """The folder without --out: in exports/ beside the stages, named for the artifact."""
    return artifact.path.parents[1] / "exports" / f"{artifact.id.replace('/', '-')}-gguf"


def write_gguf(artifact: Artifact, name: str, folder: Path, kind: str) -> Copied:
    """Write model.gguf, Modelfile and the model card into `folder`; kind: one of TYPES.

    What an earlier call wrote there is replaced, once the new files are complete. Raises ExportError for an artifact
    without a model, a folder that holds something else, and a model that the converter refuses.
    """
    if kind not in TYPES:
        raise ExportError(f"--gguf {kind}: choose one of {', '.join(TYPES)}")
    source, program = trained_model(artifact), converter()
    with publishing(artifact, folder, {MODELFILE, WEIGHTS}) as made:
        _convert(program, source, made / WEIGHTS, kind)
        (made / MODELFILE).write_text(modelfile(source, artifact.manifest.config["student"]), encoding="utf-8")
        (made / CARD).write_text(model_card(artifact, name), encoding="utf-8")
    return copied(folder)


def _convert(program: Path, source: Path, file: Path, kind: str) -> None:
    command = [sys.executable, str(program), str(source), "--outfile", str(file), "--outtype", kind]
    offline = {**os.environ, "HF_HUB_OFFLINE": "1"}
    result = subprocess.run(command, env=offline, capture_output=True, text=True, errors="replace", check=False)
    if result.returncode or not file.is_file() or not file.stat().st_size:
        errors = [line.strip() for line in result.stderr.splitlines() if "Error" in line and not line.startswith(" ")]
        reason = errors[-1] if errors else f"it ends with {result.returncode}"
        missing = "; pip install 'cohobate[gguf]'" if reason.startswith("ModuleNotFoundError") else ""
        raise ExportError(f"llama.cpp's converter refuses the model in {source}: {reason[:300]}{missing}")


def modelfile(source: Path, student: Mapping[str, Any]) -> str:
    """The Modelfile of the model in `source`, asked as the recipe's section [student] says."""
    from transformers import AutoConfig, AutoTokenizer

    config = AutoConfig.from_pretrained(source, local_files_only=True)
    tokenizer = AutoTokenizer.from_pretrained(source, local_files_only=True)
    text = getattr(config, "text_config", config)
    context = min(_CONTEXT, getattr(text, "max_position_embeddings", None) or _CONTEXT)
    lines = [f"FROM ./{WEIGHTS}", f"PARAMETER num_ctx {context}"]
    template = go_template(tokenizer, student)
    if template is None:
        lines.append("# The chat template in the file is used: it has no form of Ollama's that says the same.")
    else:
        lines.append(f'TEMPLATE """{template}"""')
    system = student.get("system")
    if system and '"""' not in system:
        lines.append(f'SYSTEM """{system}"""')
    return "\n".join(lines) + "\n"


def go_template(tokenizer: Any, student: Mapping[str, Any]) -> str | None:
    """The chat template as Ollama writes one, from what the tokenizer's own makes of marked messages.

    The recipe's prompt stands around the user's message. None where the template cannot be taken apart into texts
    before and behind the messages, or holds the signs of Ollama's templates.
    """
    query = {"role": "user", "content": student["prompt"].replace("{question}", _USER)}
    system, reply = {"role": "system", "content": _SYSTEM}, {"role": "assistant", "content": _REPLY}
    arguments = dict(student.get("template_args") or {})

    def render(*messages: dict[str, str], ask: bool) -> str:
        text = tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=ask, **arguments)
        return str(text)

    try:
        alone, answered = render(query, ask=True), render(query, reply, ask=False)
    except Exception:  # a template raises anything
        return None
    try:
        before_system, _, rest = render(system, query, ask=True).partition(_SYSTEM)
    except Exception:  # it has no place for a system message
        before_system, rest = "", ""
    before, _, behind = alone.partition(_USER)
    start, user, end = answered.partition(_REPLY)
    after_system, _, same = rest.partition(_USER)
    is_plain = bool(user) and start == before + _USER + behind
    if not is_plain or any(sign in alone + answered + rest for sign in ("{{", "}}", '"""')):
        return None
    opening = before
    if same == behind and before_system + rest:
        opening = (
            "{{ if .System }}" + before_system + "{{ .System }}" + after_system + "{{ else }}" + before + "{{ end }}"
        )
    return opening + "{{ .Prompt }}" + behind + "{{ .Response }}" + end
