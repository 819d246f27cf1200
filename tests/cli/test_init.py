"""`cohobate init` as a user runs it: by flags, at a terminal, and from the recipe to the report."""

import json
import os
import pty
import re
import select
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from cohobate.cli.main import main
from cohobate.config.load import load_recipe
from tests.support.command import cohobate
from tests.support.pipeline import run_stages
from tests.support.wire_server import Act, WireServer, completion, unused_port

pytestmark = pytest.mark.serves

ROWS = [
    {"nr": n, "problem": f"Ann has {n + 3} pears and picks {2 * n + 1} more. How many?", "result": 3 * n + 4}
    for n in range(30)
]
NEEDED = {"--questions": "pears.jsonl", "--teacher": "world/teacher", "--student": "world/base"}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with 30 questions of somebody's own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COHOBATE_DATA", str(tmp_path / "data"))
    (tmp_path / "pears.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in ROWS))
    return tmp_path


def flags(needed: Mapping[str, str], **changes: str) -> list[str]:
    values = {**needed, **{f"--{name}": value for name, value in changes.items()}}
    return [part for option in values.items() for part in option]


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The sentence of a command that ends with 2; in this process, which has no terminal either."""
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    said = capsys.readouterr()
    assert (ended.value.code, said.out) == (2, "")
    [line] = said.err.splitlines()
    return line


def adds(body: dict[str, Any], times: int) -> Act:
    """A teacher that adds the two numbers of a question."""
    a, b = map(int, re.findall(r"\d+", body["messages"][-1]["content"])[:2])
    return Act(payload=completion(body, f"{a} and {b} more make {a + b}.\nAnswer: {a + b}"))


@pytest.mark.trains
def test_own_questions_and_a_local_server_reach_the_report(folder: Path) -> None:
    server = WireServer(adds)
    server.pages["/v1/models"] = {"data": [{"id": "adder", "object": "model", "owned_by": "somebody"}]}
    with server.running():
        given = flags(NEEDED, teacher=server.url)
        made = cohobate("init", "pears.toml", *given, "--gold-column", "result", data=folder / "data")
        assert (made.returncode, made.stderr) == (0, "")
        assert "responses" in made.stdout and "teacher answers" in made.stdout
        recipe = load_recipe("pears.toml", ["sft.steps=2", "sft.warmup=0", "evaluation.max_tokens=8"])
        artifacts = run_stages(recipe)
    assert recipe.teacher.model == "adder" and recipe.triples.verifier.name == "numeric"
    metrics = artifacts["triples"].manifest.named_metrics
    splits = artifacts["questions"].manifest.named_metrics["splits"]
    assert metrics["samples"] == splits["train"] * recipe.triples.samples
    assert metrics["pass_rate"] == 1 and metrics["verdicts"] == {"correct": metrics["samples"]}
    assert (artifacts["report"].path / "index.html").is_file()


def test_the_recipe_says_what_was_found_and_is_replaced_by_force_alone(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["init", "sub/pears.toml", *flags(NEEDED), "--no-preflight"]
    (folder / "sub").mkdir()
    (folder / "sub" / "pears.toml").write_text("mine")
    assert "--force" in refused(arguments, capsys)
    assert (folder / "sub" / "pears.toml").read_text() == "mine"
    with pytest.raises(SystemExit) as ended:
        main([*arguments, "--force"])
    assert not ended.value.code
    recipe = load_recipe(str(folder / "sub" / "pears.toml"))
    assert recipe.questions.path == str(folder / "pears.jsonl") and recipe.name == "pears"
    assert recipe.questions.columns.question == "problem"
    text = (folder / "sub" / "pears.toml").read_text()
    assert "# 30 questions" in text and "the file has: nr, problem, result" in text


@pytest.mark.parametrize("left_out", [*NEEDED])
def test_without_a_terminal_a_missing_flag_is_one_sentence(
    left_out: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    needed = {option: value for option, value in NEEDED.items() if option != left_out}
    line = refused(["init", "mine.toml", *flags(needed)], capsys)
    assert left_out in line and not [option for option in needed if option in line]
    assert [path.name for path in folder.iterdir()] == ["pears.jsonl"]


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["mine.yaml", *flags(NEEDED)], ["mine.yaml", "NAME.toml"]),
        (["my recipe.toml", *flags(NEEDED)], ["my recipe.toml", "letters"]),
        (["mine.toml", *flags(NEEDED, questions="plums.jsonl")], ["plums.jsonl", "does not exist"]),
        (["mine.toml", *flags(NEEDED, questions="notes.md")], ["notes.md", "document"]),
        (["mine.toml", *flags(NEEDED, teacher="models/none")], ["models/none", "config.json"]),
        (["mine.toml", *flags(NEEDED, student="models/none")], ["models/none", "config.json"]),
        (["mine.toml", *flags(NEEDED, teacher=f"http://127.0.0.1:{unused_port()}/v1")], ["nothing listens"]),
        (["mine.toml", *flags(NEEDED, teacher="http://user:key@host/v1")], ["must not carry a key"]),
        (["mine.toml", *flags(NEEDED), "--question-column", "frage"], ["no column 'frage'", "problem"]),
        (["mine.toml", *flags(NEEDED), "--gold-column", "risult"], ["no column 'risult'", "result"]),
        (["mine.toml", *flags(NEEDED), "--set", "sft.stepz=1"], ["sft.stepz", "sft.steps"]),
        (["mine.toml", *flags(NEEDED), "--set", "questions=3"], ["questions=3", "is a section"]),
        (["mine.toml", *flags(NEEDED), "--set", "questions=[[1]]"], ["questions=", "is a section"]),
        (["mine.toml", *flags(NEEDED), "--set", "questions.hf=3"], ["'hf' is 3", "section"]),
        (["mine.toml", *flags(NEEDED), "--set", "questions.columns=true"], ["'columns' is True", "section"]),
        (["mine.toml", *flags(NEEDED), "--set", "questions.columns.question=3"], ["'columns.question' is 3"]),
        (["mine.toml", *flags(NEEDED), "--set", "questions.columns.gold_answer.x=a"], ["'columns.gold_answer'"]),
        (["mine.toml", *flags(NEEDED, teacher="http://[::1/v1")], ["http://[::1/v1 is no address"]),
        (["mine.toml", *flags(NEEDED, teacher="http://[host]:80")], ["http://[host]:80 is no address"]),
    ],
)
def test_a_mistake_is_one_sentence_and_writes_nothing(
    arguments: list[str], parts: list[str], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = refused(["init", *arguments], capsys)
    for part in parts:
        assert part in line
    assert "key@" not in line
    assert [path.name for path in folder.iterdir()] == ["pears.jsonl"]


def test_a_terminal_is_asked_and_may_correct_the_guess(folder: Path) -> None:
    replies = ["mine.csv", "world/teacher", "world/base", "y", "", "total"]
    (folder / "mine.csv").write_text("question,answer,total\n" + "".join(f"{n} + 1?,no,{n + 1}\n" for n in range(20)))
    shown = at_a_terminal([sys.executable, "-m", "cohobate", "init", "mine.toml", "--no-preflight"], replies, folder)
    recipe = load_recipe(str(folder / "mine.toml"))
    assert recipe.questions.columns.gold_answer == "total"
    assert "right answers" in shown and "[answer]" in shown and "cohobate deploy" in (folder / "mine.toml").read_text()


def at_a_terminal(command: list[str], replies: list[str], folder: Path) -> str:
    """What a program shows at a terminal where each of `replies` is typed in when it asks."""
    own, its = pty.openpty()
    environment = {**os.environ, "COHOBATE_DATA": str(folder / "data"), "TERM": "dumb"}
    program = subprocess.Popen(command, stdin=its, stdout=its, stderr=its, cwd=folder, env=environment)
    os.close(its)
    shown, waiting, deadline = "", list(replies), time.monotonic() + 100
    while time.monotonic() < deadline:
        if select.select([own], [], [], 0.2)[0]:
            try:
                shown += os.read(own, 4096).decode()
            except OSError:  # the program has ended
                break
        elif waiting and shown.rstrip(" ").endswith(":"):
            os.write(own, f"{waiting.pop(0)}\n".encode())
            shown += "\n"
    assert program.wait(20) == 0 and not waiting, shown
    os.close(own)
    return shown
