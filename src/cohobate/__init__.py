"""cohobate: build distillation datasets, and distil a teacher into a student, offline and on-policy.

    from cohobate import Recipe, run, triples, sft, opd, evaluate

gives the stages as functions; each name is imported when it is asked for, so that `import cohobate` loads nothing.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cohobate.config import Recipe
    from cohobate.stages.functions import evaluate, opd, run, sft, triples

__all__ = ["Recipe", "evaluate", "opd", "run", "sft", "triples"]

__version__ = "0.1.0"

# The objectives that come with cohobate: one line per declaration, whose file says what it is. Recipes, stages and
# training read the declarations and name none, and find those of other packages by entry points of the group below. The
# first objective of a stage is its default.
OBJECTIVE_ENTRY_POINTS = "cohobate.objectives"
OBJECTIVES = (
    "cohobate.training.objectives.cross_entropy:CrossEntropy",
    "cohobate.training.objectives.logit_kd:LogitKd",
    "cohobate.training.objectives.dpo:Dpo",
    "cohobate.training.objectives.simpo:Simpo",
    "cohobate.training.objectives.kto:Kto",
    "cohobate.training.objectives.exact:Exact",
    "cohobate.training.objectives.topk:TopK",
    "cohobate.training.objectives.sampled:Sampled",
    "cohobate.training.objectives.gkd:Gkd",
    "cohobate.training.objectives.grpo:Grpo",
    "cohobate.training.objectives.ghost:Ghost",
    "cohobate.training.objectives.judge:Judge",
    "cohobate.training.objectives.dpo:DpoRounds",
    "cohobate.training.objectives.simpo:SimpoRounds",
    "cohobate.training.objectives.kto:KtoRounds",
)

# The groups of entry points by which other packages bring verifiers, and sources of questions (core/plug_ins.py).
VERIFIER_ENTRY_POINTS = "cohobate.verifiers"
SOURCE_ENTRY_POINTS = "cohobate.sources"


def __getattr__(name: str) -> Any:
    """The names of `__all__`, from the modules that hold them."""
    if name not in __all__:
        raise AttributeError(f"module 'cohobate' has no attribute '{name}'; it has {', '.join(__all__)}")
    from importlib import import_module

    return getattr(import_module("cohobate.config" if name == "Recipe" else "cohobate.stages.functions"), name)


def __dir__() -> list[str]:
    """What completion in a notebook shows."""
    return sorted({*globals(), *__all__})
