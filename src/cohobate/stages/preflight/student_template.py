"""The check of a student's template in a process of its own.

Run as a module with a recipe's JSON on standard input; a refusal is one line of standard error, with exit code 2.
Asking an endpoint needs no tokenizer, and the libraries of models would take more memory than all of the asking.
"""

from __future__ import annotations

import subprocess
import sys

from cohobate.config import Recipe
from cohobate.core.errors import CohobateError, UserError

_REFUSED = UserError.exit_code


def require_apart(recipe: Recipe) -> None:
    """What `require_student_template` raises, without its libraries in this process."""
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
    raise CohobateError(f"the student's template could not be checked: {lines[-1]}")


def main() -> int:
    from cohobate.stages.preflight.templates import require_student_template

    try:
        require_student_template(Recipe.model_validate_json(sys.stdin.read()))
    except UserError as error:
        print(error, file=sys.stderr)
        return _REFUSED
    return 0


if __name__ == "__main__":
    sys.exit(main())
