"""`cohobate` as a user runs it: its own process, its exit code, its one sentence."""

import hashlib
import json
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from cohobate.core.errors import StoreError
from cohobate.store.artifacts import STAGES
from tests.support.command import answer, cohobate, refusal
from tests.support.pipeline import Finished

pytestmark = pytest.mark.serves

# Scripts rely on these names.
LISTED = {"id", "stage", "recipe", "fingerprint", "path", "rows", "bytes", "created_at", "status", "promoted"}
SCORED = {"student", "suite", "split", "decoding", "n", "accuracy", "low", "high"}


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["run", "nowhere.toml"], ["nowhere.toml", "tiny"]),
        (["run", "arithmatic"], ["did you mean 'arithmetic'"]),
        (["run", "tiny", "--set", "opd.stepz=3"], ["unknown key 'opd.stepz'", "did you mean 'opd.steps'"]),
        (["run", "tiny", "--set", "sft.steps=-5"], ["'sft.steps' is -5"]),
        (["run", "tiny", "--set", "sft.lr=fast"], ["'sft.lr' is 'fast'", "number"]),
        (["run", "tiny", "--set", "sft=5"], ["'sft' is 5"]),
        (["run", "tiny", "--set", "student.model=nowhere"], ["student.model: model 'nowhere'"]),
        (["run", "tiny", "--set", "sft.steps.deep=5"], ["sft.steps"]),
        (["run", "tiny", "--set", "sft.steps"], ["section.key=value"]),
        (["run", "tiny", "--until", "opt"], ["--until opt", "questions, triples, sft, opd"]),
        (["run", "tiny", "--set", "teacher.model=nowhere", "--until", "nothing"], ["--until nothing"]),
        (["show", "sft/none"], ["no artifact 'sft/none'", "cohobate ls"]),
        (["show", "sft/none", "--json"], ["no artifact 'sft/none'"]),
        (["resume"], ["no unfinished run", "cohobate run"]),
        (["resume", "tiny-2020"], ["'tiny-2020'", "none"]),
        (["preflight", "nowhere.toml"], ["nowhere.toml", "tiny"]),
    ],
)
def test_a_mistake_is_one_sentence(arguments: list[str], parts: list[str], tmp_path: Path) -> None:
    line = refusal(*arguments, data=tmp_path / "data")
    for part in parts:
        assert part in line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        ("[opd]\nsteps = = 3\n", ["not valid TOML", "line 2"]),
        ("[opd]\nsteps = 3\nsteps = 4\n", ["not valid TOML", "line 3"]),
        ("[evalution]\nseed = 3\n", ["unknown key 'evalution'", "did you mean 'evaluation'"]),
        ("[opd]\nstep = 3\n", ["unknown key 'opd.step'", "did you mean 'opd.steps'"]),
        ("[opd]\nsteps = -3\n", ["'opd.steps' is -3", "greater than or equal to 0"]),
        ('[opd]\nsteps = "many"\n', ["'opd.steps' is 'many'", "integer"]),
        ("[opd]\nobjective = 'exakt'\n", ["'opd.objective' is 'exakt'", "'exact'"]),
        ("opd = [1, 2]\n", ["'opd' is [1, 2]"]),
        ("[questions]\nsource = 'file'\n", ["needs a path"]),
    ],
)
def test_a_mistake_in_a_recipe_is_located(content: str, parts: list[str], tmp_path: Path) -> None:
    recipe = tmp_path / "mine.toml"
    recipe.write_text(content)
    line = refusal("run", "mine.toml", data=tmp_path / "data")
    for part in ["mine.toml", *parts]:
        assert part in line
    assert list(tmp_path.iterdir()) == [recipe]


@pytest.mark.parametrize("arguments", [["run"], ["fly"], ["ls", "--jsn"], ["show"]])
def test_a_wrong_command_line_exits_with_2_and_shows_the_usage(arguments: list[str], tmp_path: Path) -> None:
    result = cohobate(*arguments, data=tmp_path / "data")
    assert result.returncode == 2
    assert "Usage" in result.stderr and "Traceback" not in result.stderr


def test_an_empty_store_lists_nothing(tmp_path: Path) -> None:
    assert answer("ls", data=tmp_path / "data") == []
    result = cohobate("ls", data=tmp_path / "data")
    assert result.returncode == 0 and "cohobate run tiny" in result.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", [["run", "tiny", "--until", "questions"], ["preflight", "tiny"]])
def test_a_data_folder_that_cannot_be_written_is_one_sentence(command: list[str], tmp_path: Path) -> None:
    # Below a regular file not even root can write.
    (tmp_path / "file").write_text("mine")
    result = cohobate(*command, data=tmp_path / "file" / "data")
    assert result.returncode == 2, result.stderr
    assert "Traceback" not in result.stderr
    if command[0] == "run":
        [line] = result.stderr.splitlines()
        assert str(tmp_path / "file" / "data") in line and "COHOBATE_DATA" in line
    else:  # the checks are a table; the folder's row carries the sentence
        assert "is not a folder" in " ".join(result.stdout.split())
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("place", ["file", "file/data"])
def test_listing_a_data_folder_that_is_none_is_no_traceback(place: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    result = cohobate("ls", "--json", data=tmp_path / place)
    assert "Traceback" not in result.stderr
    assert result.returncode in (0, StoreError.exit_code)


def test_the_list_has_the_promised_fields(finished: Finished) -> None:
    rows = answer("ls", data=finished.root)
    assert [row["stage"] for row in rows] == list(STAGES)
    assert [row["created_at"] for row in rows] == sorted(row["created_at"] for row in rows)
    for row in rows:
        assert set(row) == LISTED
        folder = Path(row["path"])
        files = [path for path in folder.rglob("*") if path.is_file() and path.name != "manifest.json"]
        assert row["bytes"] == sum(path.stat().st_size for path in files)
        assert row["id"] == f"{row['stage']}/{folder.name}"
        assert folder.name == f"{row['recipe']}-{row['fingerprint'][:8]}"
        assert len(row["fingerprint"]) == 64 and row["recipe"] == "tiny" and row["status"] == "done"
    counts = {row["stage"]: row["rows"] for row in rows}
    for stage, name in (("questions", "questions"), ("triples", "triples"), ("evaluation", "answers")):
        path = finished.artifacts[stage].path / f"{name}.parquet"
        assert counts[stage] == pq.read_metadata(path).num_rows


def test_a_shown_manifest_has_the_promised_fields(finished: Finished) -> None:
    known = {artifact.id: artifact for artifact in finished.artifacts.values()}
    shown = answer("show", finished.artifacts["triples"].id, data=finished.root)
    assert {"parents", "metrics", "files", "ledger"} <= set(shown)
    folder = finished.artifacts["triples"].path
    assert shown["files"]
    for entry in shown["files"]:
        content = (folder / entry["path"]).read_bytes()
        assert set(entry) == {"path", "bytes", "sha256"}
        assert (entry["bytes"], entry["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())
    assert [parent["stage"] for parent in shown["parents"]] == ["questions"]
    for parent in shown["parents"]:
        assert known[parent["id"]].fingerprint == parent["fingerprint"]
    [spent] = shown["ledger"]
    assert (spent["stage"], spent["model"], spent["work"]) == ("triples", "teacher", "generation")
    tokens = pq.read_table(folder / "triples.parquet", columns=["completion_tokens"])
    assert spent["tokens"] == sum(tokens["completion_tokens"].to_pylist())


def test_a_shown_evaluation_has_the_promised_scores(finished: Finished) -> None:
    evaluation = finished.artifacts["evaluation"]
    shown = answer("show", evaluation.fingerprint[:10], data=finished.root)
    answers = pq.read_table(evaluation.path / "answers.parquet").to_pylist()
    assert shown["metrics"]
    for score in shown["metrics"]:
        assert set(score) >= SCORED
        assert 0 <= score["low"] <= score["accuracy"] <= score["high"] <= 1
        rows = [r for r in answers if all(r[key] == score[key] for key in ("student", "split", "decoding"))]
        assert score["n"] == len(rows) > 0
        correct = sum(row["verdict"] == "correct" for row in rows)
        assert score["accuracy"] == pytest.approx(correct / len(rows))


def test_people_see_what_scripts_see(finished: Finished) -> None:
    listed = cohobate("ls", data=finished.root)
    shown = cohobate("show", finished.artifacts["questions"].id, data=finished.root)
    assert (listed.returncode, shown.returncode) == (0, 0)
    for artifact in finished.artifacts.values():
        assert artifact.path.name in listed.stdout.replace("\n", "")
    assert finished.artifacts["questions"].fingerprint in shown.stdout.replace("\n", "")


def test_triples_are_exported(finished: Finished, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = ["export", finished.artifacts["triples"].id, "--format", "messages", "--out", str(out)]
    result = cohobate(*command, data=finished.root)
    assert (result.returncode, result.stderr) == (0, "")
    rows = [json.loads(line) for line in (out / "train.jsonl").read_text().splitlines()]
    verdicts = pq.read_table(finished.artifacts["triples"].path / "verdicts.parquet")["verdict"].to_pylist()
    assert len(rows) == verdicts.count("correct") and f"{len(rows)} rows" in result.stdout
    assert "--force" in refusal(*command, data=finished.root)
    assert cohobate(*command, "--force", data=finished.root).returncode == 0


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        (["--format", "mesages"], ["--format mesages", "did you mean 'messages'"]),
        (["--format", "csv"], ["--format csv", "choose one of messages"]),
        (["--format", "text", "--policy", "best"], ["--policy best", "shortest_correct"]),
        (["--format", "text", "--pass-rate", "0.8:0.2"], ["--pass-rate 0.8:0.2", "low:high"]),
        (["--format", "text", "--pass-rate", "half"], ["--pass-rate half", "low:high"]),
        (["--format", "alpaca", "--reasoning", "field"], ["--reasoning field", "alpaca", "messages"]),
        (["--format", "alpaca", "--reasoning", "fields"], ["did you mean 'field'"]),
        (["--format", "alpaca", "--separator", "|"], ["--separator", "--format text"]),
        (["--format", "text", "--separator", ""], ["--separator is empty"]),
        (["--format", "text", "--verifier", "judge"], ["'judge'", "exact"]),
    ],
)
def test_a_mistake_in_an_export_is_one_sentence(
    options: list[str], parts: list[str], finished: Finished, tmp_path: Path
) -> None:
    arguments = ["export", finished.artifacts["triples"].id, "--out", str(tmp_path / "out"), *options]
    line = refusal(*arguments, data=finished.root)
    for part in parts:
        assert part in line
    assert list(tmp_path.iterdir()) == []


def test_triples_are_curated(finished: Finished, tmp_path: Path) -> None:
    copy = tmp_path / "data"
    shutil.copytree(finished.root, copy)
    source = finished.artifacts["triples"]
    result = cohobate("curate", source.id, "--pass-rate", "1:1", "--ngram", "0", data=copy)
    assert result.returncode == 0
    [made] = [row for row in answer("ls", data=copy) if row["recipe"] == "tiny.curated"]
    verdicts = pq.read_table(source.path / "verdicts.parquet")["verdict"].to_pylist()
    assert made["rows"] == verdicts.count("correct") and made["id"] in result.stdout
    assert cohobate("export", made["id"], "--format", "text", data=copy).returncode == 0


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        (["--against", "tets"], ["'tets'", "'test'"]),
        (["--near-duplicates", "2"], ["near_duplicates", "less than or equal to 1"]),
        (["--pass-rate", "2:3"], ["--pass-rate 2:3"]),
        (["--min-words", "5", "--max-words", "4"], ["min_words 5 is above max_words 4"]),
    ],
)
def test_a_mistake_in_curation_is_one_sentence(options: list[str], parts: list[str], finished: Finished) -> None:
    line = refusal("curate", finished.artifacts["triples"].id, *options, data=finished.root)
    for part in parts:
        assert part in line


def test_only_triples_are_exported(finished: Finished, tmp_path: Path) -> None:
    scores = finished.artifacts["evaluation"].id
    assert "no triples" in refusal("export", scores, "--format", "text", data=finished.root)


def test_a_damaged_artifact_is_listed_as_damaged(finished: Finished, tmp_path: Path) -> None:
    copy = tmp_path / "data"
    shutil.copytree(finished.root, copy)
    name = finished.artifacts["questions"].path.name
    with (copy / "questions" / name / "questions.parquet").open("ab") as file:
        file.write(b"!")
    status = {row["stage"]: row["status"] for row in answer("ls", data=copy)}
    assert status == {stage: "damaged" if stage == "questions" else "done" for stage in STAGES}
