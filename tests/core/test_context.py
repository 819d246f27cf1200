"""The ambient context: set by the caller for a block, read by the work, carried to threads and child processes."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cohobate.core import context
from cohobate.core.context import Context, Slot
from cohobate.core.progress import bar, measured, say
from tests.support.source_tree import modules

ROOT = Path(__file__).parents[2]
ALL = modules({ROOT / "src" / "cohobate": ROOT / "src", ROOT / "tasks": ROOT, ROOT / "flows": ROOT})


class Listener:
    def __init__(self) -> None:
        self.calls: list[tuple[object, ...]] = []

    def start(self, *arguments: object) -> None:
        self.calls.append(("start", *arguments))

    def update(self, *arguments: object) -> None:
        self.calls.append(("update", *arguments))

    def finish(self, *arguments: object) -> None:
        self.calls.append(("finish", *arguments))

    def measured(self, *arguments: object) -> None:
        self.calls.append(("measured", *arguments))

    def message(self, *arguments: object) -> None:
        self.calls.append(("message", *arguments))


def test_a_block_changes_the_context_and_gives_it_back() -> None:
    before = context.current()
    with context.using(lookup_only=True), context.using(as_json=True) as inner:
        assert inner == context.current() == Context(lookup_only=True, as_json=True)
    with pytest.raises(ZeroDivisionError), context.using(lookup_only=True):
        _ = 1 / 0
    assert context.current() == before


def test_the_innermost_slot_is_the_one_that_a_build_acquires() -> None:
    acquired: list[tuple[str, str]] = []

    def slot(name: str) -> Slot:
        @contextmanager
        def acquire(artifact_id: str) -> Iterator[None]:
            acquired.append((name, artifact_id))
            yield

        return acquire

    with context.using(slot=slot("outer")), context.using(slot=slot("inner")), context.current().slot("sft/tiny-0"):
        assert acquired == [("inner", "sft/tiny-0")]
    with context.current().slot("sft/tiny-1"):
        assert len(acquired) == 1


def test_every_listener_hears_of_bars_and_messages() -> None:
    one, other = Listener(), Listener()
    with context.listening(one), context.listening(other):
        with bar("sft", 2, "steps") as it:
            it.advance(1, "loss 2")
            measured("sft", 1, {"loss": 2.0})
        say("done")
    say("to nobody")
    at_work = [("update", "sft", 1, 2, "loss 2"), ("measured", "sft", 1, {"loss": 2.0})]
    expected = [("start", "sft", 2, "steps"), *at_work, ("finish", "sft"), ("message", "done")]
    assert one.calls == other.calls == expected


def test_a_thread_works_in_the_context_of_its_maker() -> None:
    listener = Listener()
    with context.listening(listener):
        thread = context.thread(lambda: say("from the thread"), "speaker")
    thread.start()
    thread.join()
    assert listener.calls == [("message", "from the thread")]


@pytest.mark.parametrize("variable", ["COHOBATE_RUN_ID", "COHOBATE_FLOW_RUN_ID", "COHOBATE_DATA"])
def test_a_variable_of_the_environment_is_read_in_one_place(variable: str) -> None:
    naming = [name for name, module in ALL.items() if f'"{variable}"' in module.path.read_text(encoding="utf-8")]
    assert len(naming) == 1


@pytest.mark.serves
def test_a_child_process_knows_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COHOBATE_RUN_ID", raising=False)
    monkeypatch.delenv("COHOBATE_FLOW_RUN_ID", raising=False)
    program = "from cohobate.core.context import current; print(current().run_id, current().flow_run_id)"
    command = [sys.executable, "-c", program]
    with context.using(run_id="tiny-1", flow_run_id="f-2"):
        environment = context.environment()
    printed = [
        subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout.split()
        for env in (environment, context.environment())
    ]
    assert printed == [["tiny-1", "f-2"], ["None", "None"]]
