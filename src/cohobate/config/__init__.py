"""The recipe: one frozen object that says what a run makes, one section per stage. Every later room reads it here."""

from cohobate.config.base import Experiment, SplitName, StageName
from cohobate.config.compare import BASE, START, Compare, Method
from cohobate.config.curation import Curation, Mix, Part
from cohobate.config.gate import Gate
from cohobate.config.judge import Judge
from cohobate.config.models import Student, Teacher, TeacherAccess, TeacherKind
from cohobate.config.nightly import Nightly
from cohobate.config.objectives import ObjectiveStage
from cohobate.config.opd import Opd, Sft
from cohobate.config.privileged import Example, Privileged, filled
from cohobate.config.questions import Columns, Documents, Fractions, Hub, Questions
from cohobate.config.recipe import Evaluation, Recipe, Runtime
from cohobate.config.recover import Adapters, Handbook, Recover
from cohobate.config.single import Single
from cohobate.config.suites import Harness, Suite
from cohobate.config.teachers import NamedTeacher, Route
from cohobate.config.templated import FIXED_DATE, Templated
from cohobate.config.tiny_policy import TinyPolicyJudge, TinyPolicySettings
from cohobate.config.tracking import TrackerName, Tracking
from cohobate.config.training import Alarms, Lora, Training
from cohobate.config.triples import VERIFIERS, Triples, Verification

__all__ = [
    "BASE",
    "FIXED_DATE",
    "START",
    "VERIFIERS",
    "Adapters",
    "Alarms",
    "Columns",
    "Compare",
    "Curation",
    "Documents",
    "Evaluation",
    "Example",
    "Experiment",
    "Fractions",
    "Gate",
    "Handbook",
    "Harness",
    "Hub",
    "Judge",
    "Lora",
    "Method",
    "Mix",
    "NamedTeacher",
    "Nightly",
    "ObjectiveStage",
    "Opd",
    "Part",
    "Privileged",
    "Questions",
    "Recipe",
    "Recover",
    "Route",
    "Runtime",
    "Sft",
    "Single",
    "SplitName",
    "StageName",
    "Student",
    "Suite",
    "Teacher",
    "TeacherAccess",
    "TeacherKind",
    "Templated",
    "TinyPolicyJudge",
    "TinyPolicySettings",
    "TrackerName",
    "Tracking",
    "Training",
    "Triples",
    "Verification",
    "filled",
]
