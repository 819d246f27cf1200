"""`cohobate export`: check what was asked, select, write the file, describe it, and let the folder appear whole."""

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
from cohobate.datasets.export.dataset_card import Export, dataset_card
from cohobate.datasets.export.formats import FORMATS, REASONINGS, Format, Style
from cohobate.datasets.export.trainer_configs import axolotl, llama_factory
from cohobate.datasets.export.writer import Written, write_pairs, write_samples
from cohobate.datasets.selection import POLICIES, Selection, choose, outline, pair, window
from cohobate.store.artifacts import Artifact, verify

# Says that a folder is an export, and of what: only such a folder is ever replaced.
MARK = "export.json"


@dataclass(frozen=True)
class Request:
    """What is asked for: a format, a selection, and how rows are written (None: as the artifact's recipe says)."""

    format: str
    selection: Selection = field(default_factory=Selection)
    verifier: str | None = None
    reasoning: str = "think"
    separator: str | None = None


def export(artifact: Artifact, request: Request, out: Path, *, force: bool = False) -> Export:
    """Write `artifact`'s triples into the folder `out`: the rows, README.md, and what other trainers need to read it.

    An existing folder is replaced with `force`, and only if it is an export. Raises ExportError or SelectionError for
    what a user can put right, and DamagedArtifactError for an artifact that was altered.
    """
    made, style = _format(artifact, request), _style(artifact, request)
    _check_place(out, force)
    verify(artifact)
    samples = outline(artifact.path, request.verifier)
    usable, left_out = _usable(artifact, samples, made, style)
    with _writing(out), replacing_folder(out) as folder:
        written = _write(artifact, request, usable, made, style, folder / made.file)
        result = Export(out.name, artifact, made, style, request.selection, written, samples, left_out)
        _describe(result, folder)
    return result


def selection(policy: str, per_question: int | None, pass_rate: str | None) -> Selection:
    """The selection in words of the command line; `pass_rate` is LOW:HIGH. Raises ExportError."""
    for each in POLICIES:
        if each == policy:
            return Selection(each, per_question, window(pass_rate))
    raise _unknown("--policy", policy, POLICIES)


def default_folder(artifact: Artifact, request: Request) -> Path:
    """Where an export goes unless told: exports/ beside the stages, named for what it is."""
    chosen = request.selection
    parts = [artifact.path.name, request.format, chosen.policy]
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
    made = FORMATS[request.format]
    if request.reasoning == "field" and not made.fields:
        able = ", ".join(name for name, each in FORMATS.items() if each.fields)
        raise ExportError(f"--reasoning field: {made.name} has no field for the rationale; these have: {able}")
    if request.separator is not None and made.name != "text":
        raise ExportError(f"--separator belongs to --format text, not to {made.name}")
    if request.separator == "":
        raise ExportError("--separator is empty; the parts of a row could not be told apart")
    return made


def _unknown(option: str, value: str, names: Iterable[str]) -> ExportError:
    names = list(names)
    near = difflib.get_close_matches(value, names, n=1)
    hint = f"did you mean '{near[0]}'?" if near else f"choose one of {', '.join(names)}"
    return ExportError(f"{option} {value} is unknown; {hint}")


def _style(artifact: Artifact, request: Request) -> Style:
    """The student is asked in the export as it is asked in the recipe."""
    recipe = artifact.manifest.config
    style = Style(prompt=recipe["student"]["prompt"], system=recipe["student"]["system"])
    separator = recipe["sft"]["separator"] if request.separator is None else request.separator
    return replace(style, reasoning="field" if request.reasoning == "field" else "think", separator=separator)


def _check_place(out: Path, force: bool) -> None:
    if not out.exists():
        return
    if not out.is_dir():
        raise ExportError(f"{out} is a file; give a folder to --out")
    if not any(out.iterdir()):
        return
    if not (out / MARK).is_file():
        raise ExportError(f"{out} holds other files, which an export will not replace; give another folder to --out")
    if not force:
        raise ExportError(f"{out} holds an export already; give another folder to --out, or --force to replace it")


@contextmanager
def _writing(out: Path) -> Iterator[None]:
    """Turn a place that cannot be written, or is full, into one sentence."""
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
    artifact: Artifact, samples: pl.DataFrame, made: Format, style: Style
) -> tuple[pl.DataFrame, dict[str, int]]:
    """The samples that the format can express, and the number of the others by reason."""
    scan = pl.scan_parquet(artifact.path / "triples.parquet")
    reasons = scan.select(made.unusable(style).alias("reason")).collect(engine="streaming")["reason"]
    return samples.filter(reasons.is_null()), counts(reasons)


def _write(
    artifact: Artifact, request: Request, usable: pl.DataFrame, made: Format, style: Style, file: Path
) -> Written:
    if made.pairs:
        pairs = pair(usable, request.selection)
        if pairs.is_empty():
            raise SelectionError(
                f"{artifact.id} has no question with a correct and an incorrect sample, so there are no preference "
                "pairs; raise triples.samples, or choose other questions with --pass-rate"
            )
        return write_pairs(artifact.path, pairs, made, style, file)
    chosen = choose(usable, request.selection)
    if chosen.is_empty():
        raise SelectionError(
            f"{artifact.id} has no sample for --policy {request.selection.policy} within the given limits; "
            "--policy all takes every one"
        )
    return write_samples(artifact.path, chosen, made, style, file)


def _describe(result: Export, folder: Path) -> None:
    """The files beside the rows: card, marks and the snippets for other trainers."""
    entry = llama_factory(result.format.name, result.style, result.format.file)
    if entry:
        write_json_atomic(folder / "dataset_info.json", {result.name: entry})
    snippet = axolotl(result.format.name, result.style, f"{result.name}/{result.format.file}")
    if snippet:
        (folder / "axolotl.yaml").write_text(snippet, encoding="utf-8")
    (folder / "README.md").write_text(
        dataset_card(result, folder / result.format.file, entry, snippet), encoding="utf-8"
    )
    write_json_atomic(folder / MARK, _mark(result, folder / result.format.file))


def _mark(result: Export, file: Path) -> dict[str, Any]:
    return {
        "artifact": result.artifact.id,
        "fingerprint": result.artifact.fingerprint,
        "format": result.format.name,
        "selection": asdict(result.selection),
        "style": asdict(result.style),
        "rows": result.written.rows,
        "left_out": result.left_out,
        "file": {"path": file.name, "bytes": file.stat().st_size, "sha256": hash_file(file)},
    }
