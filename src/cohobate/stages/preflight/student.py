"""The checks of a student that is to learn from triples, before these are paid.

Run as a module with a recipe's JSON on standard input; a refusal is one line of standard error, with exit code 2.
Asking an endpoint needs no model here, and the libraries of models would take more memory than all of the asking.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from cohobate.config import Recipe
from cohobate.core.errors import CohobateError, ModelError, UserError
from cohobate.stages.preflight import machine
from cohobate.stages.preflight.checklist import CHECKS, require
from cohobate.stages.preflight.scope import Role

_REFUSED = UserError.exit_code
# Memory and disk are left out: the student may be trained on another machine. An engine that is tried says by itself
# where there is no vLLM.
_OF_MODELS = tuple(each for each in CHECKS if each.run not in (machine.vllm, machine.disk, machine.memory))


def require_student(recipe: Recipe, roles: Sequence[Role] = ("student",)) -> None:
    """Raise UserError with one sentence where the student cannot learn from the triples, by what preflight checks.

    roles: with "teacher", a teacher in a folder is checked too, and that the two models fit each other. A student that
    is not here is left out; one too large for this machine's memory is not loaded.
    """
    student = _student_folder(recipe)
    if student is not None and _fits(student, recipe):
        require(recipe, roles, checks=_OF_MODELS)
        return
    if "teacher" in roles:
        require(recipe, ["teacher"])
    if student is not None:
        _require_outline(recipe)


def require_student_apart(recipe: Recipe) -> None:
    """What `require_student` raises, without its libraries in this process."""
    child = subprocess.run(
        [sys.executable, "-m", __name__],
        input=recipe.model_dump_json(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    if child.returncode == 0:
        return
    lines = child.stderr.strip().splitlines() or [f"exit code {child.returncode}"]
    if child.returncode == _REFUSED:
        raise UserError(lines[-1])
    raise CohobateError(f"the student could not be checked: {lines[-1]}")


def _student_folder(recipe: Recipe) -> Path | None:
    """The folder of a student that learns and is here."""
    from cohobate.models.loading import model_path

    if not (recipe.sft.steps or recipe.opd.steps):
        return None
    try:
        return model_path(recipe.student.model)
    except ModelError:
        return None


def _fits(student: Path, recipe: Recipe) -> bool:
    """Whether the student's weights fit into this machine's memory, in float32 if their files are in half precision."""
    from cohobate.models.precision import device_memory, resolve_device

    weights = sum(file.stat().st_size for file in student.glob("*.safetensors"))
    return 2 * weights < device_memory(resolve_device(recipe.runtime.device))


def _require_outline(recipe: Recipe) -> None:
    """What can be refused of a student without its weights."""
    from cohobate.models.loading import outline
    from cohobate.models.model_cost import skeleton
    from cohobate.stages.preflight.templates import require_student_template

    try:
        skeleton(outline(recipe.student.model, template=recipe.student.template).config)
        require_student_template(recipe)
    except CohobateError as error:
        raise UserError(f"{error} (preflight: student loads)") from error


def main() -> int:
    try:
        require_student(Recipe.model_validate_json(sys.stdin.read()))
    except UserError as error:
        print(error, file=sys.stderr)
        return _REFUSED
    return 0


if __name__ == "__main__":
    sys.exit(main())
