"""On-policy distillation on one prompt, against many prompts and against SFT on the answers to the one.

questions -> triples -> sft (the start) -> for each seed: opd on one, opd on many, sft on one at each of its
learning rates; the table at the end

python -m flows.single_prompt oneprompt [--set single.seeds=1]
"""

import sys
from collections.abc import Iterator

from cohobate.config import Recipe
from cohobate.experiments.single_prompt.arms import (
    MANY,
    ONE,
    START,
    ArmExam,
    checked_section,
    on_answers,
    on_policy,
    order,
    sft_arm,
)
from cohobate.store.artifacts import Artifact
from tasks.experiments import choose_prompt, measure_held_out, without_rationales, write_single_prompt_table
from tasks.run import cohobate_flow, run_flow, run_recipe
from tasks.stages import train_opd, train_sft, write_questions, write_triples


def pipeline(recipe: Recipe) -> Iterator[Artifact]:
    """The start, then the arms seed by seed."""
    config = checked_section(recipe)
    yield (questions := write_questions(recipe))
    yield (triples := write_triples(recipe, questions))
    if config.bare:
        yield (triples := without_rationales(recipe, triples))
    yield (start := train_sft(recipe, triples, questions))
    yield (prompt := choose_prompt(recipe, questions))
    yield (scores := measure_held_out(recipe, questions, start))
    exams = [ArmExam(START, 0, scores, start)]
    for seed in range(config.seeds):
        yield (one := train_opd(on_policy(recipe, seed, one=True), start, prompt, triples))
        yield (many := train_opd(on_policy(recipe, seed, one=False), start, questions, triples))
        students = [(ONE, one), (MANY, many)]
        yield (answers := write_triples(on_answers(recipe, seed), prompt))
        for lr in config.sft_lr:
            yield (student := train_sft(on_answers(recipe, seed, start, lr), answers, prompt))
            students.append((sft_arm(config, lr), student))
        for arm, model in students:
            yield (scores := measure_held_out(recipe, questions, model))
            exams.append(ArmExam(arm, seed, scores, model))
    exams.sort(key=lambda each: order(config).index(each.arm))
    yield write_single_prompt_table(recipe, prompt, exams)


@cohobate_flow()
def single_prompt(recipe: Recipe | str = "oneprompt") -> list[Artifact]:
    """Run the recipe, given by its name, its path, or in full."""
    return run_recipe(pipeline, recipe)


if __name__ == "__main__":
    sys.exit(run_flow(single_prompt, sys.argv[1:]))
