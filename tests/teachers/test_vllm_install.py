"""The arguments of an engine that do not need one: how long a row may be."""

from types import SimpleNamespace
from typing import Any, ClassVar

import pytest

from cohobate.core.errors import EngineError
from cohobate.teachers.vllm.install import longest_row


class Settings:
    section: ClassVar[str] = "opd.vllm"
    dtype, gpu_memory, tensor_parallel = "auto", 0.4, 1

    def __init__(self, max_length: int | None = None) -> None:
        self.max_length = max_length


def config(rope_type: str, **rope: Any) -> Any:
    return SimpleNamespace(max_position_embeddings=131072, rope_parameters={"rope_type": rope_type, **rope})


LONG = config("longrope", original_max_position_embeddings=4096)
BY_KIND_OF_LAYER = SimpleNamespace(
    max_position_embeddings=131072,
    rope_parameters={
        "full_attention": {"rope_type": "longrope", "original_max_position_embeddings": 8192},
        "sliding_attention": {"rope_type": "default"},
    },
)


@pytest.mark.parametrize(
    ("of", "wanted", "given"),
    [
        (LONG, None, 4096),
        (LONG, 1024, 1024),
        (LONG, 4096, 4096),
        (BY_KIND_OF_LAYER, None, 8192),
        (config("dynamic", factor=4.0), None, 131072),
        (config("yarn", factor=4.0, original_max_position_embeddings=32768), None, None),
        (config("llama3", original_max_position_embeddings=8192), 100_000, 100_000),
        (SimpleNamespace(), None, None),
        (None, 512, 512),
    ],
)
def test_an_engine_gets_the_length_that_is_set_and_no_more_than_a_ropes_own(
    of: Any, wanted: int | None, given: int | None
) -> None:
    assert longest_row(Settings(wanted), of) == given


def test_a_length_beyond_which_short_rows_would_change_is_refused_in_a_sentence() -> None:
    with pytest.raises(EngineError, match=r"^opd\.vllm\.max_length is 4097, but beyond 4096 tokens .* at most 4096$"):
        longest_row(Settings(4097), LONG)
