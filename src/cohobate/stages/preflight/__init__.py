"""Preflight: everything that can be checked about a recipe before a stage spends anything on it.

`checklist` lists the checks as data and runs them; `machine`, `teachers`, `models` and `scoring` hold their functions.
"""

from cohobate.stages.preflight.checklist import Finding, check, print_findings, require

__all__ = ["Finding", "check", "print_findings", "require"]
