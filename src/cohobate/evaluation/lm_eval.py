"""lm-evaluation-harness (the extra `suites`) on a model folder: its tasks, such as GSM8K and IFEval, as our scores."""

from __future__ import annotations

import math
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from cohobate.config import Harness
from cohobate.core.errors import RecipeError, UserError
from cohobate.core.fingerprint import hash_folder
from cohobate.core.statistics import Z95, Interval
from cohobate.store.manifest import Score

_HINT = "tasks of lm-evaluation-harness need the package lm-eval; install it with `pip install 'cohobate[suites]'`"


def identity(config: Harness) -> dict[str, Any]:
    """The inputs of the scores: tasks, settings, the harness's version, and the content of the user's task files."""
    if config.include is not None and not Path(config.include).is_dir():
        raise RecipeError(f"harness.include = '{config.include}' is no folder; give the one with your task files")
    own = None if config.include is None else hash_folder(Path(config.include))
    try:
        release = version("lm-eval")
    except PackageNotFoundError:
        raise UserError(_HINT) from None
    return {**config.identity(), "include": own, "version": release}


def run(config: Harness, model: Path, device: str, template: Mapping[str, Any]) -> dict[str, Any]:
    """Run the tasks on the folder `model`; {results, versions, n} as the harness gives them.

    template: the variables with which it renders the model's chat template.

    Raises UserError without the package, RecipeError for a task that it does not know.
    """
    from cohobate.models.precision import resolve_device, weight_dtype

    try:
        import lm_eval
        from lm_eval.tasks import TaskManager
    except ImportError:
        raise UserError(_HINT) from None
    target = resolve_device(device)
    manager = TaskManager(include_path=config.include, include_defaults=_needs_defaults(config))
    unknown = [task for task in config.tasks if task not in manager.all_tasks]
    if unknown:
        raise RecipeError(
            f"harness.tasks: the harness knows no task '{unknown[0]}'; `lm-eval ls tasks` lists them, and "
            "harness.include names a folder with your own"
        )
    output = lm_eval.simple_evaluate(
        model="hf",
        model_args={
            "pretrained": str(model),
            "dtype": str(weight_dtype(target, train=False)).removeprefix("torch."),
            "chat_template_args": dict(template),
        },
        tasks=list(config.tasks),
        task_manager=manager,
        num_fewshot=config.fewshot,
        limit=config.limit,
        batch_size=config.batch_size,
        device=target,
        apply_chat_template=config.chat,
        log_samples=False,
    )
    counts = {task: int(n["effective"]) for task, n in output["n-samples"].items()}
    results = {task: {name: _plain(value) for name, value in row.items()} for task, row in output["results"].items()}
    return {"results": results, "versions": {k: str(v) for k, v in output["versions"].items()}, "n": counts}


def scores(student: str, results: dict[str, Any]) -> list[Score]:
    """A score of `student` for each share that a task reports in the `results` of `run`.

    The interval is the normal one of the harness's own standard error; without a standard error it is 0 to 1.
    """
    rows = []
    for task, row in results["results"].items():
        for name, value in row.items():
            metric, comma, filtered = name.partition(",")
            if not comma or metric.endswith("_stderr") or not isinstance(value, float) or not 0 <= value <= 1:
                continue
            error = row.get(f"{metric}_stderr,{filtered}")
            half = Z95 * error if isinstance(error, float) else math.inf
            interval = Interval(value, max(0.0, value - half), min(1.0, value + half))
            rows.append(
                Score(
                    student=student,
                    suite=f"{task} {metric}" + ("" if filtered == "none" else f" ({filtered})"),
                    split="test",
                    decoding="greedy",
                    seed=0,
                    n=results["n"][task],
                    accuracy=interval,
                )
            )
    return rows


def _needs_defaults(config: Harness) -> bool:
    """Whether a task is missing in the user's folder; reading the harness's thousands of task files takes seconds."""
    if config.include is None:
        return True
    own = " ".join(path.read_text(encoding="utf-8") for path in Path(config.include).rglob("*.yaml"))
    return not all(f"task: {task}" in own for task in config.tasks)


def _plain(value: Any) -> Any:
    """A number of NumPy as one of Python."""
    return value.item() if hasattr(value, "item") else value
