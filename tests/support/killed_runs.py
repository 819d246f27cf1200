"""Data folders as a whole run and killed ones leave them: `python -m tests.support.killed_runs FOLDER [MOMENT ...]`.

FOLDER/finished holds every kind of artifact; FOLDER/<moment> the same without one of them, whose build was killed.
"""

import os
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Any

from cohobate.config import Recipe
from cohobate.config.load import make_recipe
from cohobate.stages import curation, labels, suites
from cohobate.store import promotion, runs
from cohobate.store.artifacts import Artifact
from tests.support.pipeline import run_stages

SECTIONS: dict[str, dict[str, Any]] = {
    "questions": {"train": 16, "fresh": 16, "validation": 2, "test": 2, "hard": 2},
    "triples": {"max_tokens": 40, "batch_size": 8},
    "sft": {"steps": 4, "batch": 4, "warmup": 0, "evaluate_every": 2, "evaluate_questions": 2, "snapshot_every": 1},
    "opd": {
        **{"steps": 4, "prompts": 2, "group": 2, "max_tokens": 12, "warmup": 0},
        **{"evaluate_every": 2, "evaluate_questions": 2, "snapshot_every": 2, "keep_scores": True},
    },
    "evaluation": {"decodings": ["greedy"], "max_tokens": 12},
    "report": {"questions": 2, "rollouts": 2},
    "runtime": {"threads": 1},
}
# The artifacts that are missing, and what lies in the folder when the run is killed; None: nothing runs.
MOMENTS: dict[str, tuple[tuple[str, ...], str | None]] = {
    "answered": (("triples", "labels"), None),
    "answering": (("triples", "labels", "responses"), "responses/journal-*.jsonl"),
    "judging": (("labels",), "labels/*.partial/scratch/verdicts-*.parquet"),
    "sft": (("sft",), "sft/*.partial/scratch/snapshots/step-000003/state.json"),
    "rollouts": (("opd",), "opd/*.partial/scratch/rollouts/step-000003.parquet"),
    "sampled": (("opd",), "opd/*.partial/scratch/rollouts/held-000002-*.parquet"),
    "scores": (("opd",), "opd/*.partial/scratch/scores/step-000002-*.safetensors"),
    "evaluating": (("evaluation",), "evaluation/*.partial/scratch/sft-*.parquet"),
}


def recipe_in(home: Path) -> Recipe:
    """The recipe of all of these folders."""
    questions = home / "suite.jsonl"
    questions.write_text('{"question": "2 + 3 = ?", "gold_answer": "5"}\n', encoding="utf-8")
    suite = {"name": "sums", "path": str(questions), "samples": 2, "max_tokens": 12}
    return make_recipe({"name": "tiny", **SECTIONS, "suites": [suite]}, "tiny")


def make_everything(recipe: Recipe) -> dict[str, Artifact]:
    """An artifact of each kind, by stage or kind; made now where it is not there."""
    made = run_stages(recipe)
    made["labels"] = labels.relabel(made["triples"], {"name": "math"})
    made["curated"] = curation.curate(made["triples"], curation.settings())
    made["suites"] = suites.measure(recipe, made["sft"].id)
    return made


def finish(recipe: Recipe) -> None:
    """A whole run, its record, and a promotion."""
    made = make_everything(recipe)
    promotion.promote("tiny", [made["questions"]], "by hand")
    runs.begin(recipe, "report").model_copy(update={"id": "run"}).save()
    for path in (runs.begin(recipe, "report").path.parent).glob("tiny-*"):
        path.unlink()


def run_until(recipe: Recipe, root: Path, pattern: str | None) -> bool:
    """Run in a process of its own, until a file like this is there; returns whether it was, before the run ended."""
    process = os.fork()
    if not process:
        os.environ["COHOBATE_DATA"] = str(root)
        finish(recipe)
        os._exit(0)
    while pattern is None or not any(path.stat().st_size for path in root.glob(pattern)):
        ended, status = os.waitpid(process, os.WNOHANG)
        if ended:
            assert status == 0, f"the run in {root} failed"
            return False
        time.sleep(0.001 if pattern else 0.05)
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    return True


def main(home: Path, *moments: str) -> None:
    """Fill `home`. Each run is forked off, before a library has started threads, so that torch is loaded once."""
    import polars
    import torch
    import transformers

    assert polars and torch and transformers
    recipe, finished = recipe_in(home), home / "finished"
    run_until(recipe, finished, None)
    for moment in moments or MOMENTS:
        missing, pattern = MOMENTS[moment]
        for _ in range(5):
            root = home / moment
            shutil.rmtree(root, ignore_errors=True)
            shutil.copytree(finished, root)
            for stage in missing:
                shutil.rmtree(root / stage)
            if pattern is None or run_until(recipe, root, pattern):
                break
        else:
            raise AssertionError(f"the moment {moment} never came")


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
