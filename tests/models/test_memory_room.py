"""Where memory runs out, work goes on in smaller parts, with the same results."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from cohobate.core.errors import ModelError
from cohobate.models.loading import LoadedModel
from cohobate.models.logprobs import score
from cohobate.models.memory_room import Room
from cohobate.models.sampling import sampler
from cohobate.models.sampling.sampler import Decoding, sample, uniforms
from cohobate.models.sequence import TrainingSequence


def test_a_size_is_halved_until_it_fits_and_stays(capsys: pytest.CaptureFixture[str]) -> None:
    room, tried = Room(100, "rows", "sampling"), []

    def work(size: int) -> str:
        tried.append(size)
        if size > 30:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return "done"

    assert (room.use(work), room.use(work)) == ("done", "done")
    assert tried == [100, 50, 25, 25]
    assert "sampling: memory ran out at 50 rows at a time; going on with 25" in capsys.readouterr().err


def test_work_of_which_no_part_fits_is_refused() -> None:
    def work(size: int) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(ModelError, match="opd: the memory of the device is not enough for 7 tokens at a time"):
        Room(100, "tokens", "opd").use(work, least=7)


def _room_for(elements: int, model: Any) -> Callable[[], None]:
    """Let a model run out of memory where it looks up more tokens than so many; call the result to end that."""

    def refuse(module: Any, args: tuple[torch.Tensor]) -> None:
        if args[0].numel() > elements:
            raise torch.OutOfMemoryError("CUDA out of memory")

    hook = model.get_input_embeddings().register_forward_pre_hook(refuse)
    remove: Callable[[], None] = hook.remove
    return remove


def test_rows_are_sampled_that_do_not_fit_together(teacher: LoadedModel, prompts: list[list[int]]) -> None:
    prompts = prompts * 40
    noise, told = uniforms(3, [str(i) for i in range(len(prompts))], 8), list[int]()

    def drawn(size: int) -> list[tuple[list[int], list[float]]]:
        told.clear()
        rows = sample(
            teacher.model,
            prompts,
            Decoding(8),
            noise,
            eos_ids=teacher.eos_ids,
            pad_id=teacher.pad_id,
            batch_size=size,
            done=told.append,
        )
        return [(row.response_ids, row.logprobs) for row in rows]

    whole = drawn(1000)
    # With a hook the model goes through its module, which looks tokens up: those of a prompt, or one a row.
    most = 2 * max(map(len, prompts))
    assert most < len(prompts)
    end = _room_for(most, teacher.model)
    try:
        found = drawn(1000)
        assert sampler.most_rows[teacher.model] < len(prompts)
    finally:
        end()
        sampler.most_rows.clear()
    assert sum(told) == len(prompts)
    assert [ids for ids, _ in found] == [ids for ids, _ in whole]
    for (_, ours), (_, theirs) in zip(found, whole, strict=True):
        assert ours == pytest.approx(theirs, abs=1e-4)


def test_scoring_raises_what_a_room_needs(teacher: LoadedModel, prompts: list[list[int]]) -> None:
    rows = [TrainingSequence([*prompt, 5, 6, 7], len(prompt)) for prompt in prompts]
    room = Room(4096, "tokens", "scoring")
    end = _room_for(max(len(row.ids) for row in rows), teacher.model)
    try:
        found = room.use(lambda budget: score(teacher.model, rows, budget, teacher.pad_id), least=4)
    finally:
        end()
    assert room.size < 4096
    whole = score(teacher.model, rows, 4096, teacher.pad_id)
    for ours, theirs in zip(found, whole, strict=True):
        torch.testing.assert_close(ours.logprobs, theirs.logprobs, rtol=0, atol=1e-4)
