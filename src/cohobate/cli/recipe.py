"""Commands that read a recipe and run no flow: estimate, preflight, suites, serve teacher."""

from __future__ import annotations

from typing import Annotated

import typer

from cohobate.cli.arguments import AsJson, Overrides, RecipeName


def estimate(
    recipe: RecipeName,
    overrides: Overrides = None,
    gpu: Annotated[str, typer.Option(help="rtx-4090, l40s, a100, h100, h200 or cpu-core.")] = "h100",
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
    from cohobate.cli.estimate_view import print_estimate
    from cohobate.config.load import load_recipe

    chosen = load_recipe(recipe, overrides or [])
    print_estimate(chosen, gpu, utilisation, prompt_tokens, questions, as_json=as_json)


def preflight(recipe: RecipeName, overrides: Overrides = None) -> None:
    """Check everything that can be checked before anything is spent."""
    from cohobate.config.load import load_recipe
    from cohobate.stages.preflight import check, print_findings

    findings = check(load_recipe(recipe, overrides or []))
    print_findings(findings)
    if not all(finding.passed for finding in findings):
        raise typer.Exit(2)


def suites(
    recipe: RecipeName,
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A training artifact's id, or a model folder.")],
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Measure a model on a recipe's suites: files of questions, and tasks of lm-evaluation-harness."""
    from cohobate.cli.artifact_view import print_suites
    from cohobate.config.load import load_recipe
    from cohobate.stages.suites import measure

    scores = measure(load_recipe(recipe, overrides or []), model)
    if as_json:
        print(scores.manifest.model_dump_json(indent=2))
    else:
        print_suites(scores)


def serve_teacher(
    recipe: RecipeName,
    overrides: Overrides = None,
    host: Annotated[str, typer.Option(help="Address to listen at.")] = "127.0.0.1",
    port: Annotated[
        int | None,
        typer.Option(min=1, max=65535, help="Port; else that of teacher.base_url on this machine, else a free one."),
    ] = None,
    teacher: Annotated[str | None, typer.Option(metavar="NAME", help="Which one, of several teachers.")] = None,
) -> None:
    """Serve the teacher of a recipe with `vllm serve`, until Ctrl+C."""
    from cohobate.config.load import load_recipe
    from cohobate.teachers.vllm.server import serve_until_stopped

    chosen = load_recipe(recipe, overrides or [])
    if chosen.teachers or teacher is not None:
        chosen = chosen.with_teacher_alone(teacher)
    serve_until_stopped(chosen, host=host, port=port)
