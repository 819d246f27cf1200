"""Mid-train on a handbook, measure what was lost, recover it from the reference; then the second handbook likewise.

The reference is the checkpoint before mid-training.

prompts -> chat -> for each arm: midtrain -> exam -> opd -> exam; the table at the end

python -m flows.recover handbook [--set recover.seeds=1]
"""

import sys
from collections.abc import Iterator

from cohobate.config import Recipe
from cohobate.experiments.recovery.arms import (
    BEFORE,
    MID_TRAINED,
    RECOVERED,
    ArmExam,
    arms,
    checked_section,
    of_arm,
    second_round,
)
from cohobate.store.artifacts import Artifact
from tasks.experiments import answer_chat, examine, midtrain, write_prompts, write_recovery_table
from tasks.run import cohobate_flow, run_flow, run_recipe
from tasks.stages import train_opd


def pipeline(recipe: Recipe) -> Iterator[Artifact]:
    """The first round arm by arm, then the second round from where the first one ended."""
    config = checked_section(recipe)
    yield (prompts := write_prompts(recipe))
    yield (replies := answer_chat(recipe, prompts))
    yield (before := examine(recipe, prompts))
    exams, students = [ArmExam(0, "–", 0, BEFORE, before)], {}
    for arm in arms(config):
        yield (trained := midtrain(recipe, arm, 1, replies))
        yield (recovered := train_opd(of_arm(recipe, arm), trained, prompts, prompts))
        for phase, model in ((MID_TRAINED, trained), (RECOVERED, recovered)):
            yield (scores := examine(recipe, prompts, model))
            exams.append(ArmExam(1, arm.name, arm.seed, phase, scores))
        students[arm] = recovered
    for arm in second_round(config):
        reference = students[arm]
        yield (rehearsal := write_prompts(recipe, [1]))
        yield (replies := answer_chat(recipe, rehearsal, reference))
        yield (trained := midtrain(recipe, arm, 2, replies, reference))
        of_second = of_arm(recipe, arm, str(reference.path / "model"))
        yield (recovered := train_opd(of_second, trained, rehearsal, rehearsal))
        for phase, model in ((MID_TRAINED, trained), (RECOVERED, recovered)):
            yield (scores := examine(recipe, prompts, model))
            exams.append(ArmExam(2, arm.name, arm.seed, phase, scores))
    yield write_recovery_table(recipe, sorted(exams, key=lambda each: (each.round, each.arm)))


@cohobate_flow()
def recover(recipe: Recipe | str = "handbook") -> list[Artifact]:
    """Run the recipe, given by its name, its path, or in full."""
    return run_recipe(pipeline, recipe)


if __name__ == "__main__":
    sys.exit(run_flow(recover, sys.argv[1:]))
