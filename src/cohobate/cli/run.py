"""Commands that run a flow: run, resume, compare, recover, single-prompt, policy train."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, NoReturn, get_args

import typer

from cohobate.cli import completion
from cohobate.cli.arguments import AsJson, Overrides, RecipeName, recipe_arguments
from cohobate.cli.programs import become, become_flow

if TYPE_CHECKING:
    from cohobate.config import Experiment

# Flows with a command of their own; records of other flows were begun by a deployment.
_FLOWS = ("distill", "compare", "judge", "recover", "single_prompt")


def run(
    recipe: RecipeName,
    overrides: Overrides = None,
    until: Annotated[
        str, typer.Option(metavar="STAGE", help="Stop after this stage.", autocompletion=completion.stages)
    ] = "report",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what is in the store and what the rest takes; spend nothing.")
    ] = False,
) -> None:
    """Run a recipe's stages; what is in the store is not made again."""
    from cohobate.config import StageName
    from cohobate.config.load import load_recipe
    from cohobate.core.errors import RecipeError

    chosen = load_recipe(recipe, overrides or [])
    stages = get_args(StageName)
    if until not in stages:
        raise RecipeError(f"--until {until}: the stages are {', '.join(stages)}")
    if dry_run:
        from cohobate.cli.dry_run import print_plan

        print_plan(chosen, until)
        return
    become_flow("distill", [*recipe_arguments(recipe, overrides), "--until", until])


def resume(
    name: Annotated[
        str | None,
        typer.Argument(metavar="[RUN]", help="A run's id, or its beginning.", autocompletion=completion.run_records),
    ] = None,
) -> None:
    """Go on with a run that was interrupted or failed: the newest, or the one named."""
    from cohobate.store import runs

    record = runs.to_resume(name)
    if record.flow_run_id or record.flow not in _FLOWS:
        become("tasks.server.repair_runs", ["retry", record.id])  # begun by a deployment, whose worker resumes it
    become_flow(record.flow, ["--resume", record.id])


def compare(
    recipe: RecipeName = "compare",
    methods: Annotated[
        list[str] | None, typer.Option("--method", metavar="NAME", help="Only this method; may be given again.")
    ] = None,
    seeds: Annotated[int | None, typer.Option(min=1, help="Students of each method.")] = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Train students by several methods from one start, over several seeds: accuracy and compute side by side."""
    from cohobate.config.load import load_recipe
    from cohobate.experiments.comparison.plan import plan

    changes = [*(overrides or [])]
    changes += [f"compare.only={json.dumps(methods)}"] if methods else []
    changes += [f"compare.seeds={seeds}"] if seeds else []
    plan(load_recipe(recipe, changes))  # reports a mistake in any method before Prefect is loaded
    become_flow("compare", [*recipe_arguments(recipe, changes), *(["--json"] if as_json else [])])


def recover(recipe: RecipeName = "handbook", overrides: Overrides = None) -> None:
    """Learn a handbook, measure what was lost, and recover it from the checkpoint before it."""
    from cohobate.config import Recover

    _run_experiment("recover", recipe, overrides, Recover)


def single_prompt(recipe: RecipeName = "oneprompt", overrides: Overrides = None) -> None:
    """Distil on-policy on one prompt, against many prompts and against SFT on the answers to the one."""
    from cohobate.config import Single

    _run_experiment("single_prompt", recipe, overrides, Single)


def gather(
    names: Annotated[
        list[str],
        typer.Argument(metavar="RECIPE...", help="Recipes of finished experiments.", autocompletion=completion.recipes),
    ],
) -> None:
    """Put the newest comparison or recovery of each recipe on one page."""
    from cohobate.config.load import load_recipe
    from cohobate.experiments.gathered import gather as write_page

    gathered = write_page([load_recipe(name) for name in names])
    print(f"page: {gathered.path / 'index.html'}")


def train_policy(recipe: RecipeName = "helpdesk", overrides: Overrides = None) -> None:
    """Reinforce a recipe's tiny policy with its judge, and write the page about both."""
    from cohobate.config import TinyPolicySettings

    _run_experiment("judge", recipe, overrides, TinyPolicySettings)


def _run_experiment(flow: str, recipe: str, overrides: Sequence[str] | None, section: type[Experiment]) -> NoReturn:
    """Run the flow of an experiment. Raises RecipeError when the recipe lacks its section."""
    from cohobate.config.load import load_recipe

    load_recipe(recipe, overrides or []).section(section)
    become_flow(flow, recipe_arguments(recipe, overrides))
