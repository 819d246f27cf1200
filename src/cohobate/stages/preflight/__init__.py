"""Preflight: everything that can be checked about a recipe before a stage spends anything on it.

`checklist` lists the checks as data and runs them; `machine`, `teachers`, `models` and `scoring` hold their functions.
`conversations` looks at the questions themselves, once they are there.
"""

from cohobate.stages.preflight.checklist import Finding, check, print_findings, require
from cohobate.stages.preflight.conversations import require_templates
from cohobate.stages.preflight.scope import BOTH
from cohobate.stages.preflight.start import require_present
from cohobate.stages.preflight.student import require_student, require_student_apart

__all__ = [
    "BOTH",
    "Finding",
    "check",
    "print_findings",
    "require",
    "require_present",
    "require_student",
    "require_student_apart",
    "require_templates",
]
