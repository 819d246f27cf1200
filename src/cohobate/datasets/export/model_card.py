"""A trained model for others: its folder with a model card, here or as a repository of the Hugging Face Hub."""

from __future__ import annotations

import json
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cohobate.core.atomic_files import left_behind, replacing_folder
from cohobate.core.errors import ExportError
from cohobate.core.formatting import model_name
from cohobate.core.markdown import Yaml, front_matter, quoted
from cohobate.datasets.export.card_template import environment, lineage
from cohobate.store.artifacts import Artifact, Store
from cohobate.store.compute_ledger import is_teacher
from cohobate.store.manifest import Score

TRAINED = ("sft", "opd")
CARD = "README.md"
MARK = "- made with cohobate "
"""What each card says (templates/model.md.j2), and no README of somebody's own."""
_SENTENCES = {
    "sft": "{base}, fine-tuned on a teacher's step-by-step answers.",
    "opd": "{base}, fine-tuned on a teacher's step-by-step answers and then trained on its own ({objective}).",
}


@dataclass(frozen=True)
class Copied:
    """A model that was written: its folder, and its size in bytes."""

    folder: Path
    size: int


def default_folder(artifact: Artifact, *, adapter: bool) -> Path:
    """The folder without --out: in exports/ beside the stages, named for the artifact."""
    return artifact.path.parents[1] / "exports" / f"{artifact.id.replace('/', '-')}{'-adapter' if adapter else ''}"


def write_model(artifact: Artifact, name: str, folder: Path, *, adapter: bool = False) -> Copied:
    """Write the model of `artifact` - or the LoRA adapter alone - and its card, as `name`, into `folder`.

    What an earlier call wrote there is replaced, once the new files are complete. Raises ExportError for an artifact
    without one, and for a folder that holds something else.
    """
    source = trained_model(artifact, adapter=adapter)
    with publishing(artifact, folder, {path.relative_to(source).as_posix() for path in source.rglob("*")}) as made:
        shutil.copytree(source, made, dirs_exist_ok=True)
        (made / CARD).write_text(model_card(artifact, name, adapter=adapter), encoding="utf-8")
    return copied(folder)


@contextmanager
def publishing(artifact: Artifact, folder: Path, files: Collection[str]) -> Iterator[Path]:
    """A temporary folder to write `files` and a card to; it replaces `folder` when the block ends without an error.

    files: relative paths. `folder` may be new, empty, or a published model of these very files, known by its card.
    Raises ExportError for any other, and for one that cannot be written.
    """
    try:
        if folder.exists() and not (folder.is_dir() and _is_ours(folder, {*files, CARD})):
            raise ExportError(f"{folder} holds something else; name a new folder with --out")
        if artifact.path.resolve() in folder.resolve().parents:
            raise ExportError(f"{folder} lies in the artifact {artifact.id} itself; name another folder with --out")
        with replacing_folder(folder) as temporary:
            yield temporary
    except OSError as error:
        raise ExportError(f"{folder} cannot be written: {error.strerror or error}") from None


def _is_ours(folder: Path, files: Collection[str]) -> bool:
    """Whether nothing can be lost in `folder`: it is empty, or all that it holds was published."""
    killed = {path for name in files for path in left_behind(folder, name)}
    if all(path in killed for path in folder.iterdir()):
        return True
    card = folder / CARD
    if not card.is_file() or MARK.encode() not in card.read_bytes():
        return False
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path not in killed} == set(files)


def copied(folder: Path) -> Copied:
    """`folder` with the bytes that it holds."""
    return Copied(folder, sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()))


def model_card(artifact: Artifact, name: str, *, adapter: bool = False) -> str:
    """README.md of the model: its origin, its training and its scores."""
    manifest, config = artifact.manifest, artifact.manifest.config
    stage, base = config[artifact.stage], model_name(config["student"]["model"])
    start = _start(artifact) if adapter else None
    by_teacher = artifact.stage == "sft" or any(is_teacher(row["model"]) for row in manifest.ledger)
    teachers = config.get("teachers") or [config["teacher"]]
    teacher = ", ".join(model_name(each["model"]) for each in teachers) if by_teacher else None
    scores, scored_by = _scores(artifact)
    objective = stage["objective"].replace("_", " ")
    args = config["student"].get("template_args")
    return (
        environment()
        .get_template("model.md.j2")
        .render(
            front=_front_matter(base, adapter=adapter, on=start),
            name=name,
            sentence=_SENTENCES[artifact.stage].format(base=base, objective=objective),
            adapter=adapter,
            base=base,
            start=start,
            teacher=teacher,
            prompt=config["student"]["prompt"],
            system=config["student"]["system"],
            template_args=json.dumps(args, ensure_ascii=False) if args else None,
            scores=scores,
            scores_from=scored_by,
            objective=objective,
            steps=stage["steps"],
            config=stage,
            work=manifest.ledger,
            manifest=manifest,
            lineage=lineage(artifact),
            identity=json.dumps(manifest.identity, indent=1, ensure_ascii=False),
        )
    )


def trained_model(artifact: Artifact, *, adapter: bool = False) -> Path:
    """The folder of the model of `artifact`, or of its adapter. Raises ExportError for an artifact without one."""
    if artifact.stage not in TRAINED:
        raise ExportError(f"{artifact.id} holds no model; `cohobate ls` lists those that do: sft/ and opd/")
    folder = artifact.path / ("adapter" if adapter else "model")
    if not folder.is_dir():
        raise ExportError(f"{artifact.id} was trained without LoRA, so it has no adapter; leave out --adapter")
    return folder


def _start(artifact: Artifact) -> str | None:
    """The artifact on whose model the adapter was trained; None where that is the recipe's student."""
    parents = [each.id for each in artifact.manifest.parents if each.id.partition("/")[0] in TRAINED]
    return parents[0] if parents else None


def _front_matter(base: str, *, adapter: bool, on: str | None = None) -> str:
    values: dict[str, Yaml] = {
        "library_name": "peft" if adapter else "transformers",
        "pipeline_tag": "text-generation",
    }
    if "/" in base and not base.startswith("world/") and on is None:
        values["base_model"] = quoted(base)
    values["tags"] = ["distillation", *(["lora"] if adapter else [])]
    return front_matter(values)


def _scores(artifact: Artifact) -> tuple[list[Score], str | None]:
    """The scores of the newest evaluation of the model, with those of the models beside it, and its id."""
    store = Store(artifact.path.parents[1])
    evaluations = [
        each
        for each in store.all()
        if each.stage == "evaluation" and artifact.fingerprint in [p.fingerprint for p in each.manifest.parents]
    ]
    if not evaluations:
        return [], None
    newest = max(evaluations, key=lambda each: each.manifest.created_at)
    return newest.manifest.scores, newest.id


def push(folder: Path, name: str, *, private: bool) -> str:
    """Upload the folder as the model repository OWNER/NAME of the Hub; returns its address.

    The key is the one that huggingface_hub finds (HF_TOKEN, or `hf auth login`). Raises ExportError when the Hub
    refuses.
    """
    from httpx2 import HTTPError
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalTokenNotFoundError

    api = HfApi(library_name="cohobate")
    try:
        address = api.create_repo(name, repo_type="model", private=private, exist_ok=True)
        api.upload_folder(repo_id=name, folder_path=folder, commit_message="Model and card")
    except HFValidationError:
        raise ExportError(f"'{name}' is no name of a Hub repository; write OWNER/NAME") from None
    except LocalTokenNotFoundError:
        raise ExportError("the Hub wants a key; set HF_TOKEN, or run `hf auth login`") from None
    except HfHubHTTPError as error:
        message = (error.server_message or str(error)).strip().splitlines()[0]
        raise ExportError(f"the Hub refuses {name}: {message}; check the name, and HF_TOKEN and its rights") from None
    except (HTTPError, OSError) as error:
        raise ExportError(f"the Hub cannot be reached: {error}; what is here stays at {folder}") from None
    return str(address)
