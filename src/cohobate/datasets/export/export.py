"""`cohobate export`: check the request, select, write the file and its card, and publish the folder at once."""

from __future__ import annotations

import difflib
import errno
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import polars as pl

from cohobate.core.atomic_files import replacing_folder, write_json_atomic
from cohobate.core.errors import ExportError, SelectionError
from cohobate.core.fingerprint import hash_file
from cohobate.core.frequencies import counts
from cohobate.core.parquet import scan_table
from cohobate.core.schema import TRIPLES
from cohobate.datasets.export.dataset_card import Export, dataset_card
from cohobate.datasets.export.formats import FORMATS, Format
from cohobate.datasets.export.prompts import REASONINGS, TURNS, Style, Turns, has_systems, has_turns
from cohobate.datasets.export.trainer_configs import axolotl, llama_factory
from cohobate.datasets.export.writer import Written, write_pairs, write_samples
from cohobate.datasets.selection import RULES, Selection, choose, outline, pair, window
from cohobate.store.artifacts import Artifact, verify

# Describes an export; only a folder that holds it is ever replaced.
MARKER = "export.json"
# Formats without a loss on turns: every token is learnt, or it is the reader's choice.
_ANY_TURNS = ("text", "parquet")


@dataclass(frozen=True)
class Request:
    """A format, a selection, and how rows are written; None: as in the artifact's recipe.

    turns: which assistant messages of a conversation are learnt.
    """

    format: str
    selection: Selection = field(default_factory=Selection)
    verifier: str | None = None
    reasoning: str = "think"
    separator: str | None = None
    turns: str | None = None


def export(artifact: Artifact, request: Request, out: Path, *, force: bool = False) -> Export:
    """Write `artifact`'s triples into the folder `out`: the rows, README.md, and what other trainers need to read it.

    An existing folder is replaced with `force`, and only if it is an export. Raises ExportError or SelectionError for
    a mistake of the user, and DamagedFileError for an artifact that was altered.
    """
    file_format, style = _format(artifact, request), _style(artifact, request)
    _check_folder(out, force)
    verify(artifact)
    style = _for_turns(artifact, request, file_format, style)
    samples = outline(artifact.path, request.verifier)
    usable, left_out = _usable(artifact.path, samples, file_format, style)
    if usable.is_empty() and left_out:
        counted = ", ".join(f"{reason}: {count}" for reason, count in left_out.items())
        raise ExportError(
            f"{file_format.name} can express no sample of {artifact.id} ({counted}); choose another --format"
        )
    with _writing(out), replacing_folder(out) as folder:
        written = _write(artifact, request, usable, file_format, style, folder / file_format.file)
        result = Export(out.name, artifact, file_format, style, request.selection, written, samples, left_out)
        _describe(result, folder)
    return result


def judged_samples(triples: Path) -> pl.DataFrame:
    """The `outline` of those triples below the artifact's folder that an export of preference pairs can express."""
    usable, _ = _usable(triples, outline(triples), FORMATS["preference"], Style())
    return usable


def selection(rule: str, per_question: int | None, pass_rate: str | None) -> Selection:
    """The selection of the command line; `pass_rate` is LOW:HIGH. Raises ExportError."""
    for each in RULES:
        if each == rule:
            return Selection(each, per_question, window(pass_rate))
    raise _unknown("--policy", rule, RULES)


def default_folder(artifact: Artifact, request: Request) -> Path:
    """The folder of an export without --out: in exports/ beside the stages, named for artifact and request."""
    chosen = request.selection
    parts = [artifact.path.name, request.format, chosen.rule]
    parts += [f"{chosen.per_question}-each"] if chosen.per_question else []
    parts += [f"pass-{chosen.pass_rate[0]:g}-{chosen.pass_rate[1]:g}"] if chosen.pass_rate else []
    return artifact.path.parents[1] / "exports" / "-".join(parts)


def _format(artifact: Artifact, request: Request) -> Format:
    if artifact.stage != "triples":
        raise ExportError(f"{artifact.id} is no triples artifact; `cohobate ls` lists those that export can take")
    if request.format not in FORMATS:
        raise _unknown("--format", request.format, FORMATS)
    if request.reasoning not in REASONINGS:
        raise _unknown("--reasoning", request.reasoning, REASONINGS)
    file_format = FORMATS[request.format]
    if request.reasoning == "field" and not file_format.fields:
        able = ", ".join(name for name, each in FORMATS.items() if each.fields)
        raise ExportError(f"--reasoning field: {file_format.name} has no field for the rationale; these have: {able}")
    if request.turns is not None and request.turns not in TURNS:
        raise _unknown("--turns", request.turns, TURNS)
    if request.separator is not None and file_format.name != "text":
        raise ExportError(f"--separator belongs to --format text, not to {file_format.name}")
    if request.separator == "":
        raise ExportError("--separator is empty; the parts of a row could not be told apart")
    return file_format


def _unknown(option: str, value: str, names: Iterable[str]) -> ExportError:
    names = list(names)
    near = difflib.get_close_matches(value, names, n=1)
    hint = f"did you mean '{near[0]}'?" if near else f"choose one of {', '.join(names)}"
    return ExportError(f"{option} {value} is unknown; {hint}")


def _style(artifact: Artifact, request: Request) -> Style:
    """The prompt of the export is the student's in the recipe."""
    recipe = artifact.manifest.config
    style = Style(prompt=recipe["student"]["prompt"], system=recipe["student"]["system"])
    separator = recipe["sft"]["separator"] if request.separator is None else request.separator
    return replace(style, reasoning="field" if request.reasoning == "field" else "think", separator=separator)


def _for_turns(artifact: Artifact, request: Request, file_format: Format, style: Style) -> Style:
    """`style` with what the conversations of the artifact need. Raises ExportError where they cannot be written so."""
    facts = scan_table(artifact.path / "triples.parquet", TRIPLES).select(has_turns(), has_systems().alias("systems"))
    several, systems = facts.collect(engine="streaming").row(0)
    chosen = request.turns or ("last" if file_format.pairs else _of_recipe(artifact))
    turns: Turns = "all" if chosen == "all" else "last"
    if several and turns == "all" and not (file_format.turns or file_format.one_turn or file_format.name in _ANY_TURNS):
        able = ", ".join(name for name, each in FORMATS.items() if each.turns)
        raise ExportError(
            f"{file_format.name} has the loss on the last turn alone, and {artifact.id} has conversations of which all "
            f"are to be learnt; give --turns last, or one of these formats: {able}"
        )
    return replace(style, turns=turns, has_turns=bool(several) and file_format.turns, has_systems=bool(systems))


def _of_recipe(artifact: Artifact) -> str:
    """sft.turns of the artifact's recipe, which older ones lack."""
    return str(artifact.manifest.config["sft"].get("turns", "last"))


def _check_folder(out: Path, force: bool) -> None:
    if not out.exists():
        return
    if not out.is_dir():
        raise ExportError(f"{out} is a file; give a folder to --out")
    if not any(out.iterdir()):
        return
    if not (out / MARKER).is_file():
        raise ExportError(f"{out} holds other files, which an export will not replace; give another folder to --out")
    if not force:
        raise ExportError(f"{out} holds an export already; give another folder to --out, or --force to replace it")


@contextmanager
def _writing(out: Path) -> Iterator[None]:
    """Raise one sentence for a folder that cannot be written, or a full disk."""
    try:
        yield
    except OSError as error:
        elsewhere = error.filename is not None and not str(error.filename).startswith(str(out.parent))
        if elsewhere and error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise ExportError(
            f"{out} cannot be written ({error.strerror}); give another folder to --out, nothing was left there"
        ) from error


def _usable(
    triples: Path, samples: pl.DataFrame, file_format: Format, style: Style
) -> tuple[pl.DataFrame, dict[str, int]]:
    """The samples that the format can express, and the number of the others by reason."""
    scan = scan_table(triples / "triples.parquet", TRIPLES)
    reasons = scan.select(file_format.unusable(style).alias("reason")).collect(engine="streaming")["reason"]
    return samples.filter(reasons.is_null()), counts(reasons)


def _write(
    artifact: Artifact, request: Request, usable: pl.DataFrame, file_format: Format, style: Style, file: Path
) -> Written:
    if file_format.pairs:
        pairs = pair(usable, request.selection)
        if pairs.is_empty():
            raise SelectionError(
                f"{artifact.id} has no question with a correct and an incorrect sample, so there are no preference "
                "pairs; raise triples.samples, or choose other questions with --pass-rate"
            )
        return write_pairs(artifact.path, pairs, file_format, style, file)
    chosen = choose(usable, request.selection)
    if chosen.is_empty():
        raise SelectionError(
            f"{artifact.id} has no sample for --policy {request.selection.rule} within the given limits; "
            "--policy all takes every one"
        )
    return write_samples(artifact.path, chosen, file_format, style, file)


def _describe(result: Export, folder: Path) -> None:
    """The files beside the rows: the card, the marker and the snippets for other trainers."""
    entry = llama_factory(result.format.name, result.style, result.format.file)
    if entry:
        write_json_atomic(folder / "dataset_info.json", {result.name: entry})
    snippet = axolotl(result.format.name, result.style, f"{result.name}/{result.format.file}")
    if snippet:
        (folder / "axolotl.yaml").write_text(snippet, encoding="utf-8")
    (folder / "README.md").write_text(
        dataset_card(result, folder / result.format.file, entry, snippet), encoding="utf-8"
    )
    write_json_atomic(folder / MARKER, _marker(result, folder / result.format.file))


def _marker(result: Export, file: Path) -> dict[str, Any]:
    selection = result.selection
    return {
        "artifact": result.artifact.id,
        "fingerprint": result.artifact.fingerprint,
        "format": result.format.name,
        "selection": {
            "policy": selection.rule,
            "per_question": selection.per_question,
            "pass_rate": selection.pass_rate,
        },
        "style": asdict(result.style),
        "rows": result.written.rows,
        "left_out": result.left_out,
        "file": {"path": file.name, "bytes": file.stat().st_size, "sha256": hash_file(file)},
    }
