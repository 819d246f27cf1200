"""Preflight: everything that can be checked about a recipe before a stage spends anything on it.

`checklist` lists the checks as data and runs them; `machine`, `teachers`, `models` and `scoring` hold their functions.
`conversations` looks at the questions themselves, once they are there.
"""

from cohobate.stages.preflight.checklist import Finding, check, print_findings, require
from cohobate.stages.preflight.conversations import require_templates
from cohobate.stages.preflight.student_template import require_apart as require_template_apart
from cohobate.stages.preflight.templates import require_student_template

__all__ = [
    "Finding",
    "check",
    "print_findings",
    "require",
    "require_student_template",
    "require_template_apart",
    "require_templates",
]
