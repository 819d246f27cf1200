"""Learn a handbook, measure what was lost, recover it from the earlier self; then again with a second handbook.

prompts -> chat -> for each arm: midtrain -> exam -> opd -> exam; the table at the end

python -m flows.recover handbook [--set recover.seeds=1]
"""

import sys
from collections.abc import Iterator

from prefect import flow

from cohobate.config import Recipe, StageName
from cohobate.experiments.recovery.arms import arms, checked_section, of_arm, second_round
from cohobate.experiments.recovery.table import BEFORE, LEARNT, RECOVERED, Examined
from cohobate.store.artifacts import Artifact
from tasks.notify import notify
from tasks.opd import train_opd
from tasks.recover import answer_chat, examine, midtrain, write_prompts, write_table
from tasks.run import resolved, run_flow, run_until


def pipeline(recipe: Recipe) -> Iterator[Artifact]:
    """The first round arm by arm, then the second round from where the first one ended."""
    config = checked_section(recipe)
    yield (asked := write_prompts(recipe))
    yield (replies := answer_chat(recipe, asked))
    yield (before := examine(recipe, asked))
    found, selves = [Examined(0, "–", 0, BEFORE, before)], {}
    for arm in arms(config):
        yield (learnt := midtrain(recipe, arm, 1, replies))
        yield (self := train_opd(of_arm(recipe, arm), learnt, asked, asked))
        for phase, model in ((LEARNT, learnt), (RECOVERED, self)):
            yield (scores := examine(recipe, asked, model))
            found.append(Examined(1, arm.name, arm.seed, phase, scores))
        selves[arm] = self
    for arm in second_round(config):
        earlier = selves[arm]
        yield (wider := write_prompts(recipe, [1]))
        yield (said := answer_chat(recipe, wider, earlier))
        yield (learnt := midtrain(recipe, arm, 2, said, earlier))
        yield (self := train_opd(of_arm(recipe, arm, str(earlier.path / "model")), learnt, wider, wider))
        for phase, model in ((LEARNT, learnt), (RECOVERED, self)):
            yield (scores := examine(recipe, asked, model))
            found.append(Examined(2, arm.name, arm.seed, phase, scores))
    yield write_table(recipe, sorted(found, key=lambda one: (one.round, one.arm)))


@flow(persist_result=False, on_failure=[notify], on_crashed=[notify])
def recover(recipe: Recipe | str = "handbook", until: StageName = "report") -> list[Artifact]:
    """Run the recipe (its name, its path, or the whole of it)."""
    chosen = resolved(recipe)
    return run_until(pipeline(chosen), until, chosen)


if __name__ == "__main__":
    sys.exit(run_flow(recover, sys.argv[1:]))
