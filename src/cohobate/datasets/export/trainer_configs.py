"""Configurations of other trainers for an export: LLaMA-Factory's dataset_info.json and axolotl's YAML."""

from __future__ import annotations

from typing import Any

from cohobate.datasets.export.prompts import Style

_OPENAI_TAGS = {
    "role_tag": "role",
    "content_tag": "content",
    "user_tag": "user",
    "assistant_tag": "assistant",
    "system_tag": "system",
}
_SHAREGPT_TAGS = {
    "role_tag": "from",
    "content_tag": "value",
    "user_tag": "human",
    "assistant_tag": "gpt",
    "system_tag": "system",
}


def llama_factory(name: str, style: Style, file: str) -> dict[str, Any] | None:
    """The dataset's entry in dataset_info.json; None where LLaMA-Factory has no such format."""
    system = {"system": "system"} if style.writes_systems else {}
    entry: dict[str, dict[str, Any]] = {
        "messages": {"formatting": "sharegpt", "columns": {"messages": "messages"}, "tags": _OPENAI_TAGS},
        "alpaca": {"columns": {"prompt": "instruction", "query": "input", **system, "response": "output"}},
        "sharegpt": {"formatting": "sharegpt", "columns": {"messages": "conversations"}, "tags": _SHAREGPT_TAGS},
        "text": {"columns": {"prompt": "text"}},
        "preference-text": {
            "ranking": True,
            "columns": {"prompt": "prompt", **system, "chosen": "chosen", "rejected": "rejected"},
        },
    }
    # It reads the rationale from the text only.
    if name not in entry or style.reasoning == "field":
        return None
    return {"file_name": file, **entry[name]}


def axolotl(name: str, style: Style, file: str) -> str | None:
    """The dataset's part of an axolotl configuration; None where axolotl has no such format."""
    # A rationale in a field of its own is named reasoning_content, which is what axolotl looks for.
    kinds = {
        "messages": _chat("messages", "role", "content", style),
        "sharegpt": _chat("conversations", "from", "value", style),
        "alpaca": f"    type: {'alpaca_w_system.load_instruct' if style.writes_systems else 'alpaca'}\n",
        "text": "    type: completion\n    field: text\n",
        "preference-text": "    split: train\n    type: chatml.prompt_pairs\n",
    }
    if name not in kinds:
        return None
    task = "rl: dpo\n" if name == "preference-text" else ""
    return f"{task}datasets:\n  - path: {file}\n    ds_type: json\n{kinds[name]}"


def _chat(column: str, role: str, content: str, style: Style) -> str:
    keys = f"      role: {role}\n      content: {content}\n"
    train = "    message_field_training: train\n" if style.marks_turns else ""
    return f"    type: chat_template\n    field_messages: {column}\n    message_property_mappings:\n{keys}{train}"
