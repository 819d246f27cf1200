"""Commands that make something of artifacts: verify, diff, curate and export triples, publish a model."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from cohobate.cli import completion
from cohobate.cli.arguments import AsJson

TriplesName = Annotated[
    str,
    typer.Argument(
        metavar="ARTIFACT", help="A triples artifact's id, or its beginning.", autocompletion=completion.artifacts
    ),
]
PassRate = Annotated[
    str | None, typer.Option(metavar="LOW:HIGH", help="Only questions whose pass rate is in this range.")
]


def verify(
    name: TriplesName,
    verifier: Annotated[
        str | None, typer.Option(metavar="NAME", help="exact, numeric, math, judge, or your own as module:function.")
    ] = None,
    tolerance: Annotated[float | None, typer.Option(help="numeric: largest relative difference.")] = None,
    seconds: Annotated[float | None, typer.Option(help="math and your own: processor time of an answer.")] = None,
    majority: Annotated[
        bool | None,
        typer.Option("--majority/--no-majority", help="Judge by the majority answer where gold is missing."),
    ] = None,
    workers: Annotated[int | None, typer.Option(help="math and your own: processes.")] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="Change a value of triples.verifier, such as judge.model=world/teacher."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Judge triples again by another verifier; the verdicts are an artifact of their own, and no teacher is asked."""
    from cohobate.config.load import apply
    from cohobate.stages.labels import movements, relabel
    from cohobate.store.artifacts import Store

    options = {
        "name": verifier,
        "tolerance": tolerance,
        "seconds": seconds,
        "majority": majority,
        "workers": workers,
    }
    changes = {key: value for key, value in options.items() if value is not None}
    for override in overrides or []:
        apply(changes, override)
    triples = Store().open(name)
    labels = relabel(triples, changes)
    metrics, moved = labels.manifest.named_metrics, movements(triples, labels)
    if as_json:
        values = {"id": labels.id, "path": str(labels.path), "metrics": metrics, "moved": list(map(asdict, moved))}
        print(json.dumps(values, indent=2))
    else:
        from cohobate.report.diff import print_labels

        print_labels(labels.id, metrics, moved)


def diff(
    first: Annotated[
        str, typer.Argument(metavar="A", help="Triples or labels: the old ones.", autocompletion=completion.artifacts)
    ],
    second: Annotated[
        str, typer.Argument(metavar="B", help="Triples or labels: the new ones.", autocompletion=completion.artifacts)
    ],
    gate: Annotated[
        bool, typer.Option("--gate", help="Exit with 3 where B does not pass the checks of the recipe's [gate].")
    ] = False,
    allow: Annotated[float, typer.Option(min=0, max=1, help="Gate: raise each of its limits to this at least.")] = 0.0,
    page: Annotated[Path | None, typer.Option(metavar="FILE", help="Write an HTML page too.")] = None,
    as_json: AsJson = False,
) -> None:
    """Compare two sets of triples: pass rates, answers, lengths, tokens, cost."""
    from cohobate.core.errors import GateError
    from cohobate.datasets.diff import diff, read
    from cohobate.datasets.gate import gate as gate_result
    from cohobate.datasets.gate import limits_of
    from cohobate.report.diff import print_diff, print_gate, write_page
    from cohobate.store.artifacts import Store

    store = Store()
    new = store.open(second)
    datasets = diff(read(store.open(first)), read(new))
    result = gate_result(datasets, allow, limits_of(new)) if gate else None
    if page:
        write_page(datasets, page, result)
    if as_json:
        print(json.dumps({**datasets.as_json(), "gate": result and result.as_json()}, indent=2))
    else:
        print_diff(datasets)
        if result:
            print_gate(result)
    if result and not result.passed:
        raise GateError(f"{datasets.b.id} does not pass the gate: {'; '.join(result.reasons)}")


def curate(
    name: TriplesName,
    max_tokens: Annotated[int | None, typer.Option(help="Longest response kept.")] = None,
    keep_truncated: Annotated[bool, typer.Option("--keep-truncated", help="Keep responses that were cut.")] = False,
    min_words: Annotated[int | None, typer.Option(help="Shortest question kept.")] = None,
    max_words: Annotated[int | None, typer.Option(help="Longest question kept.")] = None,
    pass_rate: PassRate = None,
    ngrams: Annotated[
        list[int] | None,
        typer.Option("--ngram", help="So many words in common with an evaluation question (13); 0: any."),
    ] = None,
    against: Annotated[
        list[str] | None, typer.Option(metavar="SPLIT", help="Evaluation splits that may not be learnt from (all).")
    ] = None,
    keep_duplicates: Annotated[bool, typer.Option("--keep-duplicates", help="Keep repeated questions.")] = False,
    near_duplicates: Annotated[
        float | None,
        typer.Option(metavar="SHARE", help="Common part of the word trigrams of near-duplicates (0.8); 0: keep them."),
    ] = None,
    languages: Annotated[
        list[str] | None, typer.Option("--language", help="Only questions and responses in it, such as en.")
    ] = None,
    mix: Annotated[
        list[str] | None,
        typer.Option(metavar="WEIGHT[:ARTIFACT[:SOURCE]]", help="A part of a mix; without ARTIFACT these triples."),
    ] = None,
    mix_by: Annotated[str | None, typer.Option(help="rows or tokens: what the weights are of.")] = None,
    recipe: Annotated[
        str | None, typer.Option(metavar="RECIPE", help="Settings of its [curation], where none is given here.")
    ] = None,
) -> None:
    """Take out repeated, contaminated and unfit samples; they are kept beside, each with its reason."""
    from cohobate.cli.artifact_view import print_artifact
    from cohobate.datasets.selection import window
    from cohobate.stages.curation import curate, parts, settings
    from cohobate.store.artifacts import Store

    options = {
        "max_tokens": max_tokens,
        "keep_truncated": keep_truncated or None,
        "min_words": min_words,
        "max_words": max_words,
        "languages": languages or None,
        "pass_rate": window(pass_rate),
        "ngrams": [n for n in ngrams if n] if ngrams else None,
        "against": against or None,
        "duplicates": False if keep_duplicates else None,
        "near_duplicates": near_duplicates,
        "mix": {"parts": parts(mix) if mix else None, "by": mix_by},
    }
    print_artifact(curate(Store().open(name), settings(recipe, **options)))


def export(
    name: TriplesName,
    form: Annotated[
        str,
        typer.Option(
            "--format",
            help="messages, prompt-completion, alpaca, sharegpt, text, preference, preference-text or parquet.",
        ),
    ],
    policy: Annotated[str, typer.Option(help="all, correct, first_correct or shortest_correct.")] = "correct",
    out: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Where to; else exports/ of the data.")] = None,
    per_question: Annotated[int | None, typer.Option(min=1, help="At most so many rows per question.")] = None,
    pass_rate: PassRate = None,
    reasoning: Annotated[str, typer.Option(help="think: rationale in tags; field: in reasoning_content.")] = "think",
    separator: Annotated[str | None, typer.Option(help="text: between question, rationale and answer.")] = None,
    turns: Annotated[
        str | None, typer.Option(help="Assistant turns that are learnt: last or all; else as sft.turns says.")
    ] = None,
    verifier: Annotated[str | None, typer.Option(help="Whose verdicts count, if there are several.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an export that is there.")] = False,
) -> None:
    """Write triples in a format that other trainers read, with a dataset card."""
    from cohobate.datasets.export.export import Request, default_folder, export, selection
    from cohobate.store.artifacts import Store

    request = Request(form, selection(policy, per_question, pass_rate), verifier, reasoning, separator, turns)
    artifact = Store().open(name)
    folder = default_folder(artifact, request) if out is None else out
    exported = export(artifact, request, folder, force=force)
    print(f"{folder}: {exported.written.rows:,} rows of {artifact.id}")


def publish(
    name: Annotated[
        str,
        typer.Argument(
            metavar="ARTIFACT",
            help="An sft or opd artifact's id, or its beginning.",
            autocompletion=completion.artifacts,
        ),
    ],
    out: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Where to; else exports/ of the data.")] = None,
    to: Annotated[
        str | None,
        typer.Option(
            metavar="OWNER/NAME", help="Upload it to this repository of the Hugging Face Hub; needs HF_TOKEN."
        ),
    ] = None,
    public: Annotated[bool, typer.Option("--public", help="With --to: a new repository can be seen by all.")] = False,
    adapter: Annotated[bool, typer.Option("--adapter", help="The LoRA adapter alone, not the merged model.")] = False,
    gguf: Annotated[
        str | None,
        typer.Option(metavar="TYPE", help="As a GGUF file with a Modelfile for Ollama: f32, f16, bf16 or q8_0."),
    ] = None,
) -> None:
    """Write a trained model with a model card, as a folder that loads anywhere; with --to, upload it."""
    from cohobate.core.errors import SelectionError
    from cohobate.datasets.export import gguf as gguf_files
    from cohobate.datasets.export import model_card
    from cohobate.store.artifacts import Store

    if adapter and gguf is not None:
        raise SelectionError("--gguf is of the merged model; leave out --adapter")
    artifact = Store().open(name)
    if gguf is not None:
        folder = gguf_files.default_folder(artifact) if out is None else out
        model = gguf_files.write_gguf(artifact, to or folder.resolve().name, folder, gguf)
    else:
        folder = model_card.default_folder(artifact, adapter=adapter) if out is None else out
        model = model_card.write_model(artifact, to or folder.resolve().name, folder, adapter=adapter)
    print(f"{model.folder}: {model.size / 1e6:,.1f} MB of {artifact.id}")
    if to is not None:
        print(model_card.push(model.folder, to, private=not public))
