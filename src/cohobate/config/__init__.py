"""The recipe: one frozen object that says what a run makes. One section a stage.

Fields marked EXECUTION say how the work is done (memory, cadence, machine) and never what comes out: they are no
part of an artifact's identity. Every other field is.
"""

from cohobate.config.base import EXECUTION, Section, StageName
from cohobate.config.compare import Compare, Method
from cohobate.config.curation import Curation, Mix, Part
from cohobate.config.judge import Judge
from cohobate.config.models import Student, Teacher, TeacherAccess, TeacherKind
from cohobate.config.policy import Policy, PolicyJudge
from cohobate.config.questions import Columns, Documents, Hub, Questions
from cohobate.config.recipe import Recipe, Runtime
from cohobate.config.recover import Adapters, Handbook, Recover
from cohobate.config.training import Training
from cohobate.config.triples import VERIFIERS, Triples, Verification

__all__ = [
    "EXECUTION",
    "VERIFIERS",
    "Adapters",
    "Columns",
    "Compare",
    "Curation",
    "Documents",
    "Handbook",
    "Hub",
    "Judge",
    "Method",
    "Mix",
    "Part",
    "Policy",
    "PolicyJudge",
    "Questions",
    "Recipe",
    "Recover",
    "Runtime",
    "Section",
    "StageName",
    "Student",
    "Teacher",
    "TeacherAccess",
    "TeacherKind",
    "Training",
    "Triples",
    "Verification",
]
