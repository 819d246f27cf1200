"""How rollouts share a batch: none depends on its company, and no pass is computed for nothing."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch

from cohobate.models.loading import LoadedModel
from cohobate.models.sampling.sampler import Decoding, way_in_words
from tests.support.sampling_runs import DECODINGS, KEYS, drawn

TURNED = [3, 6, 0, 5, 1, 4, 2]


@pytest.mark.slow
@DECODINGS
@pytest.mark.parametrize("batch_size", [1, 3])
def test_the_company_of_a_prompt_does_not_change_its_rollout(
    teacher: LoadedModel, prompts: list[list[int]], decoding: Decoding, batch_size: int
) -> None:
    together = drawn(teacher, prompts, decoding)
    apart = drawn(teacher, [prompts[i] for i in TURNED], decoding, [KEYS[i] for i in TURNED], batch_size=batch_size)
    for i, found in zip(TURNED, apart, strict=True):
        assert found.response_ids == together[i].response_ids
        assert found.finish_reason == together[i].finish_reason
        assert found.logprobs == pytest.approx(together[i].logprobs, abs=1e-4)


def products_depend_on_the_number_of_rows() -> bool:
    """Whether the matrix library gives a row of a product other bits when there are more rows."""
    generator = torch.Generator().manual_seed(0)
    for width, out in [(192, 192), (192, 512), (512, 192)]:
        rows, weight = torch.randn(300, width, generator=generator), torch.randn(out, width, generator=generator)
        whole = torch.nn.functional.linear(rows, weight)
        parts = [torch.nn.functional.linear(rows[:n].clone(), weight) for n in (8, 12, 20, 31, 64, 101, 256)]
        if not all(torch.equal(part, whole[: len(part)]) for part in parts):
            return True
    return False


@DECODINGS
def test_not_even_the_last_bit_depends_on_the_company(
    teacher: LoadedModel, prompts: list[list[int]], decoding: Decoding
) -> None:
    if torch.get_num_threads() > 1 or products_depend_on_the_number_of_rows():
        pytest.skip("the matrix library rounds a row otherwise when there are more rows")
    decoding = replace(decoding, max_tokens=12)
    asked, keys = [prompts[i % 7] for i in range(25)], [f"{i}" for i in range(25)]
    together = drawn(teacher, asked, decoding, keys)
    for batch_size in (1, 5, 16):
        chosen = [(11 * i) % 25 for i in range(5 if batch_size == 1 else 25)]
        found = drawn(teacher, [asked[i] for i in chosen], decoding, [keys[i] for i in chosen], batch_size=batch_size)
        assert found == [together[i] for i in chosen]


@contextmanager
def passes(teacher: LoadedModel) -> Iterator[list[tuple[int, ...]]]:
    """The shapes of the inputs of each forward pass."""
    shapes: list[tuple[int, ...]] = []

    def note(module: Any, args: Any, kwargs: Any) -> None:
        shapes.append(tuple(kwargs["input_ids"].shape))

    hook = teacher.model.get_decoder().register_forward_pre_hook(note, with_kwargs=True)
    way_in_words(teacher.model)  # tries the cache with passes of its own
    shapes.clear()
    try:
        yield shapes
    finally:
        hook.remove()


def test_a_row_enters_as_soon_as_another_leaves(teacher: LoadedModel, prompts: list[list[int]]) -> None:
    """Two places: as many passes as two servers need for jobs of these lengths, the next job to whoever is free."""
    found = drawn(teacher, prompts, Decoding(48))
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    busy = [0, 0]
    for i in order:
        busy[busy.index(min(busy))] += len(found[i].response_ids)
    with passes(teacher) as shapes:
        drawn(teacher, prompts, Decoding(48), batch_size=2)
    assert sum(shape[1] == 1 for shape in shapes) == max(busy)
    assert max(busy) < sum(len(found[i].response_ids) for i in order)


def test_a_prompt_that_is_asked_often_is_read_once(teacher: LoadedModel, prompts: list[list[int]]) -> None:
    asked = [prompt for prompt in prompts[:3] for _ in range(8)]
    with passes(teacher) as shapes:
        found = drawn(teacher, asked, Decoding(4, temperature=2), [f"{i}" for i in range(24)])
    assert sum(rows for rows, width in shapes if width > 1) == 3
    alone = [
        drawn(teacher, [prompt], Decoding(4, temperature=2), [f"{i}"])[0]
        for i, prompt in enumerate(asked)
        if i % 5 == 0
    ]
    assert [row.response_ids for row in found[::5]] == [row.response_ids for row in alone]


def test_ended_rows_are_not_computed(teacher: LoadedModel, prompts: list[list[int]]) -> None:
    asked, keys = [prompts[i % 7] for i in range(28)], [f"{i}" for i in range(28)]
    found = drawn(teacher, asked, Decoding(48), keys)
    with passes(teacher) as shapes:
        drawn(teacher, asked, Decoding(48), keys)
    running = [sum(len(row.response_ids) > step for row in found) for step in range(48)]
    assert [rows for rows, width in shapes if width == 1] == [max(8, rows) for rows in running if rows]
