"""Build distillation datasets, distil language models, and look at what came out.

The pipeline's own commands stand here, those that show artifacts in looking, those that work on triples in
data_commands. A recipe is read before anything heavy is imported, so that a mistake is answered at once.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from cohobate.cli import dataset, show
from cohobate.core.errors import CohobateError

if TYPE_CHECKING:
    from cohobate.config import Experiment

app = typer.Typer(
    help=__doc__.splitlines()[0] if __doc__ else None,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

serve = typer.Typer(help="Serve a recipe's model with vLLM.", no_args_is_help=True)
app.add_typer(serve, name="serve")
policy = typer.Typer(help="A tiny policy that a judge reinforces: train it, ask it.", no_args_is_help=True)
app.add_typer(policy, name="policy")

# Flows with a command of their own; what else a record names was begun by a deployment.
EXPERIMENTS = ("compare", "judge", "recover", "single_prompt")

RecipeName = Annotated[str, typer.Argument(metavar="RECIPE", help="Path or name of a recipe.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Change a value of the recipe."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command()
def run(
    recipe: RecipeName,
    overrides: Overrides = None,
    until: Annotated[str, typer.Option(metavar="STAGE", help="Stop after this stage.")] = "report",
) -> None:
    """Run a recipe's stages; what is in the store is not made again."""
    from cohobate.config.load import load_recipe
    from cohobate.core.errors import RecipeError
    from cohobate.store.artifacts import STAGES

    load_recipe(recipe, overrides or [])
    if until not in STAGES:
        raise RecipeError(f"--until {until}: the stages are {', '.join(STAGES)}")
    changes = [part for override in overrides or [] for part in ("--set", override)]
    _become_flow([recipe, *changes, "--until", until])


@app.command()
def resume(
    name: Annotated[str | None, typer.Argument(metavar="[RUN]", help="A run's id, or its beginning.")] = None,
) -> None:
    """Go on with a run that was interrupted or failed: the newest, or the one named."""
    from cohobate.store import runs

    record = runs.to_resume(name)
    if record.flow_run_id or record.flow not in ("distill", *EXPERIMENTS):
        _become("tasks.server.retry", ["retry", record.id])  # a deployment's: its worker goes on with it
    _become_flow(["--resume", record.id], record.flow)


@app.command()
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
    plan(load_recipe(recipe, changes))  # a mistake in any method is said before Prefect is loaded
    given = [part for change in changes for part in ("--set", change)]
    _become_flow([recipe, *given, *(["--json"] if as_json else [])], "compare")


@serve.command()
def teacher(
    recipe: RecipeName,
    overrides: Overrides = None,
    host: Annotated[str, typer.Option(help="Address to listen at.")] = "127.0.0.1",
    port: Annotated[
        int | None,
        typer.Option(min=1, max=65535, help="Port; else that of teacher.base_url on this machine, else a free one."),
    ] = None,
) -> None:
    """Serve the teacher of a recipe with `vllm serve`, until Ctrl+C."""
    from cohobate.config.load import load_recipe
    from cohobate.teachers.vllm.server import serve_until_stopped

    serve_until_stopped(load_recipe(recipe, overrides or []), host=host, port=port)


@app.command()
def estimate(
    recipe: RecipeName,
    overrides: Overrides = None,
    gpu: Annotated[str, typer.Option(help="rtx-4090, l40s, a100, h100 or h200.")] = "h100",
    utilisation: Annotated[
        float, typer.Option(min=0.01, max=1, help="Share of the GPU's peak that is reached.")
    ] = 0.35,
    prompt_tokens: Annotated[int, typer.Option(min=1, help="Length of a prompt.")] = 200,
    questions: Annotated[
        int | None, typer.Option(min=1, help="Training questions; else questions.train of the recipe.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Say what a recipe will take in FLOPs, hours and memory, before any weight is here."""
    from cohobate.cli.estimate import print_estimate
    from cohobate.config.load import load_recipe

    chosen = load_recipe(recipe, overrides or [])
    print_estimate(chosen, gpu, utilisation, prompt_tokens, questions, as_json=as_json)


@policy.command()
def train(recipe: RecipeName = "helpdesk", overrides: Overrides = None) -> None:
    """Reinforce a recipe's tiny policy with its judge, and write the page about both."""
    from cohobate.config import TinyPolicySettings

    _become_experiment("judge", recipe, overrides, TinyPolicySettings)


@policy.command()
def answer(
    name: Annotated[str, typer.Argument(metavar="POLICY", help="A policy artifact's id, or a .safetensors file.")],
    texts: Annotated[list[str], typer.Argument(metavar="QUESTION...", help="What it is asked.")],
    as_json: AsJson = False,
) -> None:
    """Answer questions with a trained policy: its choice, and how sure it is of the first three."""
    from cohobate.cli.policy import print_answers

    print_answers(name, texts, as_json=as_json)


@app.command()
def recover(recipe: RecipeName = "handbook", overrides: Overrides = None) -> None:
    """Learn a handbook, measure what was lost, and recover it from the student's earlier self."""
    from cohobate.config import Recover

    _become_experiment("recover", recipe, overrides, Recover)


@app.command(name="single-prompt")
def single_prompt(recipe: RecipeName = "oneprompt", overrides: Overrides = None) -> None:
    """Distil on-policy on one prompt, against many prompts and against SFT on the answers to the one."""
    from cohobate.config import Single

    _become_experiment("single_prompt", recipe, overrides, Single)


@app.command()
def suites(
    recipe: RecipeName,
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A training artifact's id, or a model folder.")],
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Measure a model on a recipe's suites: files of questions, and tasks of lm-evaluation-harness."""
    from cohobate.cli.listing import print_suites
    from cohobate.config.load import load_recipe
    from cohobate.stages.suites import measure

    made = measure(load_recipe(recipe, overrides or []), model)
    if as_json:
        print(made.manifest.model_dump_json(indent=2))
    else:
        print_suites(made)


@app.command()
def up(
    status: Annotated[
        bool, typer.Option("--status", help="Only say what is up; exit with 1 if anything is not.")
    ] = False,
    gpu: Annotated[
        int | None, typer.Option(min=1, metavar="SLOTS", help="Builds at a time on GPUs (1; then as it was).")
    ] = None,
    lost_after: Annotated[
        int, typer.Option(min=60, metavar="SECONDS", help="Without a sign of life a run counts as Crashed.")
    ] = 180,
) -> None:
    """Start a Prefect server, a worker and the deployments of prefect.yaml, until Ctrl+C."""
    slots = [] if gpu is None else ["--gpu", str(gpu)]
    _become("tasks.server.up", [*(["--status"] if status else []), *slots, "--lost-after", str(lost_after)])


@app.command()
def free(
    name: Annotated[str, typer.Argument(metavar="RUN", help="Id or name of the flow run, or the run's own id.")],
    force: Annotated[bool, typer.Option("--force", help="Even if its process is still there.")] = False,
) -> None:
    """Set a run that hangs without its process to Crashed, so that it can be retried and lets others start."""
    _become("tasks.server.retry", ["free", name, *(["--force"] if force else [])])


@app.command()
def promote(
    name: Annotated[str, typer.Argument(metavar="ARTIFACT", help="An artifact's id, or its beginning.")],
) -> None:
    """Make an artifact, and what it was made from, the promoted ones of its recipe, without the gate."""
    from cohobate.store.artifacts import Store
    from cohobate.store.promotion import lineage
    from cohobate.store.promotion import promote as point

    artifact = Store().find(name)
    ancestors = lineage(Store(), artifact)
    # Of two ancestors of a stage, as of curated triples, the nearer one.
    nearest = {each.stage: each for each in reversed(ancestors)}
    pointer = point(artifact.manifest.recipe, list(nearest.values()), "by hand")
    for stage, found in pointer.artifacts.items():
        print(f"{stage:<10} {found}")


@app.command(name="ls")
def list_artifacts(as_json: AsJson = False) -> None:
    """List the artifacts."""
    from cohobate.cli.listing import artifact_rows, print_rows

    rows = artifact_rows()
    if as_json:
        print(json.dumps(rows, indent=2))
    else:
        print_rows(rows)


@app.command()
def gc(
    keep: Annotated[int, typer.Option(min=1, metavar="RUNS", help="Finished runs of each recipe that stay.")] = 5,
    yes: Annotated[bool, typer.Option("--yes", help="Delete; without it nothing is deleted.")] = False,
) -> None:
    """Say what no kept run and nothing promoted was made from, and how large it is; with --yes, delete it."""
    from cohobate.core.formatting import size
    from cohobate.store import gc as collector

    plan = collector.plan(keep)
    for each in plan.garbage:
        print(f"{size(each.bytes):>9}  {each.path}  {each.why}")
    if yes:
        collector.sweep(plan)
    done = "deleted" if yes else "can be deleted with --yes"
    print(f"{size(plan.bytes)} {done}, {size(plan.survivor_bytes)} in {len(plan.survivors)} artifacts kept")


@app.command()
def preflight(recipe: RecipeName, overrides: Overrides = None) -> None:
    """Check everything that can be checked before anything is spent."""
    from cohobate.config.load import load_recipe
    from cohobate.stages.preflight import check, print_findings

    findings = check(load_recipe(recipe, overrides or []))
    print_findings(findings)
    if not all(finding.passed for finding in findings):
        raise typer.Exit(2)


for command in (*show.COMMANDS, *dataset.COMMANDS):
    app.command()(command)


def _become_experiment(flow: str, recipe: str, overrides: list[str] | None, kind: type[Experiment]) -> NoReturn:
    """Run the flow of an experiment, which needs its own section of the recipe."""
    from cohobate.config.load import load_recipe

    load_recipe(recipe, overrides or []).section(kind)
    _become_flow([recipe, *(part for override in overrides or [] for part in ("--set", override))], flow)


def _become_flow(arguments: list[str], flow: str = "distill") -> NoReturn:
    """Replace this process by the flow: same process id, so that signals reach the work itself."""
    # In a terminal our own lines tell the story; Prefect's log still goes to its server.
    os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
    _become(f"flows.{flow}", arguments)


def _become(module: str, arguments: list[str]) -> NoReturn:
    """Replace this process by a program that knows Prefect: same process id, so that signals reach the work itself."""
    root = str(Path(__file__).parents[3])
    if (Path(root) / "flows").is_dir():
        os.environ["PYTHONPATH"] = os.pathsep.join(part for part in (root, os.environ.get("PYTHONPATH")) if part)
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-m", module, *arguments])


def main(argv: list[str] | None = None) -> Any:
    """Entry point: errors are one sentence, and the exit code says whose they are."""
    try:
        app(argv)
    except CohobateError as error:
        print(f"cohobate: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except BrokenPipeError:
        # The reader has gone (`cohobate ls | head`); nothing is left to say to it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)


if __name__ == "__main__":
    main()
