"""Language models on disk: find, fingerprint, load, save."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cohobate.config import Opd, Recipe
from cohobate.core.errors import ModelError
from cohobate.core.fingerprint import hash_folder
from cohobate.core.model_shape import ModelShape, text_config
from cohobate.core.sanitize import first_line
from cohobate.core.shipped import shipped_path
from cohobate.models import checkpoint, quantisation
from cohobate.models.end_of_response import Ends, end_ids, ends_revision, response_ends
from cohobate.models.precision import resolve_device, weight_dtype
from cohobate.models.template_revision import template_revision
from cohobate.store.artifacts import data_root

if TYPE_CHECKING:
    import torch

WEIGHTS = "model.safetensors"
FETCHED = "fetched/"
"""Opens the name of a model that `cohobate fetch` has made below the data root."""


@dataclass(frozen=True)
class LoadedModel:
    """A causal language model ready to run, in eval mode; end: the id that it is taught behind a response."""

    model: Any
    tokenizer: Any
    path: Path
    eos_ids: tuple[int, ...]
    end: int | None = None

    @property
    def pad_id(self) -> int:
        pad = self.tokenizer.pad_token_id
        return int(self.tokenizer.eos_token_id if pad is None else pad)

    @property
    def config(self) -> Any:
        return self.model.config

    @property
    def device(self) -> torch.device:
        device: torch.device = self.model.device
        return device


@dataclass(frozen=True)
class ModelOutline:
    """A model without its weights: enough to tokenize its prompts and to decode its responses."""

    config: Any
    tokenizer: Any
    path: Path
    eos_ids: tuple[int, ...]


def model_path(name: str) -> Path:
    """The folder of a model: a path, a shipped name such as `world/teacher`, or `fetched/NAME` below the data root."""
    fetched = name.startswith(FETCHED)
    for path in (Path(name), shipped_path(name), data_root() / name if fetched else None):
        if path is not None and (path / "config.json").is_file():
            return path
    if fetched:
        package = name.removeprefix(FETCHED).partition("-")[0]
        raise ModelError(f"model '{name}' is not below {data_root()}; make it with: cohobate fetch {package}")
    raise ModelError(
        f"model '{name}' is neither a folder with a config.json{_where(name)} nor a shipped model "
        "(shipped: world/teacher, world/base); give the path of a Hugging Face model folder"
    )


def _where(name: str) -> str:
    return "" if Path(name).is_absolute() else f" (in {Path.cwd()}, or beside its recipe)"


def model_fingerprint(name: str) -> str:
    """sha256 over the files of the model's folder: its identity, independent of its path."""
    return hash_folder(model_path(name))


def logits_revision(name: str) -> dict[str, int]:
    """The part of an identity that says how logits are made of hidden states: empty where that never changed.

    The first rule, which has no number, left out what a model does behind its head; what was trained by it is another
    artifact.
    """
    ruled = any("logit" in key and value not in (None, 0, 1) for key, value in _config_values(name).items())
    return {"logits": 2} if ruled else {}


def has_dropout(name: str) -> bool:
    """Whether the model's config asks for dropout in training."""
    return any("drop" in key and isinstance(value, float) and value > 0 for key, value in _config_values(name).items())


def _config_values(name: str) -> dict[str, Any]:
    config = json.loads((model_path(name) / "config.json").read_text(encoding="utf-8"))
    return {**config, **text_config(config)}


def load(name: str | Path, *, device: str = "auto", train: bool = False, template: str | None = None) -> LoadedModel:
    """Load a Hugging Face folder, of a student or a teacher: float32 to train, or on a CPU; else bfloat16.

    template: a chat template in place of its own.
    Raises ModelError with one sentence when the folder is no model or its files are damaged.
    """
    from transformers.utils import logging

    logging.disable_progress_bar()  # it would break the stage's own bars
    path = model_path(str(name))
    target = resolve_device(device)
    try:
        tokenizer = checkpoint.read_tokenizer(path, template)
        model = checkpoint.read_model(path, weight_dtype(target, train=train), target, train=train).to(target)
    except ModelError:
        raise
    except Exception as error:  # transformers raises OSError, ValueError, SafetensorError, ...
        raise ModelError(f"model '{name}' cannot be loaded: {first_line(error)}") from error
    checkpoint.refuse_tokens_without_embedding(path, tokenizer, len(model.get_input_embeddings().weight))
    return LoadedModel(model.eval(), tokenizer, path, end_ids(model.generation_config, model.config, tokenizer))


def refuse_untrainable(model: LoadedModel) -> None:
    """Raise ModelError where the model's weights are quantised and cannot be made whole, as training needs them."""
    quantisation.refuse_untrainable(model.path, model.config)


def read_config(folder: Path) -> Any:
    """The configuration of a model's folder. Raises ModelError with one sentence for a damaged one."""
    try:
        return checkpoint.read_config(folder)
    except ModelError:
        raise
    except Exception as error:  # transformers raises OSError, ValueError, KeyError, ...
        raise ModelError(f"{folder}/config.json cannot be read: {first_line(error)}") from error


def outline(name: str | Path, *, template: str | None = None) -> ModelOutline:
    """Configuration and tokenizer of a model's folder, with `template` as its own. Raises ModelError as `load` does."""
    from transformers import GenerationConfig

    path = model_path(str(name))
    checkpoint.refuse_pickles(path)
    try:
        config, tokenizer = checkpoint.read_config(path), checkpoint.read_tokenizer(path, template)
        described = (path / "generation_config.json").is_file()
        generation = GenerationConfig.from_pretrained(path) if described else None
    except ModelError:
        raise
    except Exception as error:  # transformers raises OSError, ValueError, ...
        raise ModelError(f"model '{name}' cannot be loaded: {first_line(error)}") from error
    return ModelOutline(config, tokenizer, path, end_ids(generation, config, tokenizer))


def save(model: Any, tokenizer: Any, folder: Path, source: Path | None = None) -> None:
    """Write a folder that `transformers` and vLLM load: weights, configuration, tokenizer, chat template.

    source: the folder that the model was read from; of a model of images and text its processors are copied, without
    which vLLM does not load the one that is written.
    """
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    if source is not None and text_config(model.config) is not model.config:
        for file in source.glob("*processor_config.json"):
            shutil.copyfile(file, folder / file.name)


def refuse_mismatch(teacher: LoadedModel | ModelOutline, student: LoadedModel | ModelOutline) -> None:
    """Raise ModelError unless both models have the same token ids: scoring is by ids."""
    student_ids, teacher_ids = student.tokenizer.get_vocab(), teacher.tokenizer.get_vocab()
    if student_ids != teacher_ids:
        different = sum(teacher_ids.get(token) != i for token, i in student_ids.items())
        across = " or ".join(kind.across_tokenizers for kind in Opd.declarations.values() if kind.across_tokenizers)
        raise ModelError(
            f"the student's tokenizer differs from the teacher's ({len(student_ids)} and {len(teacher_ids)} tokens, "
            f"{different} of the student's mean another id), so the teacher cannot score its rollouts; choose a "
            f"student of the teacher's family, let it score their text ({across}), or set opd.steps = 0"
        )
    logits = ModelShape.of(teacher.config).vocabulary
    if logits < len(student_ids):
        raise ModelError(f"the teacher has logits for {logits} of the tokenizer's {len(student_ids)} tokens")


def with_ends(student: LoadedModel, recipe: Recipe) -> LoadedModel:
    """`student` with the ends of the recipe's pair of models, which its generation config says when it is saved."""
    ends, *others = (_ends(student, own) for own in recipe.by_teacher.values())
    if any(other.taught != ends.taught for other in others):
        raise ModelError("the teachers end their responses with different tokens; set sft.end = 'student' for one end")
    ends = Ends(ends.taught, tuple(dict.fromkeys(stop for own in (ends, *others) for stop in own.stops)))
    if ends.taught not in student.eos_ids or set(ends.stops) != set(student.eos_ids):
        student.model.generation_config.eos_token_id = list(ends.stops)
    return replace(student, eos_ids=ends.stops, end=ends.taught)


def _ends(student: LoadedModel, recipe: Recipe) -> Ends:
    """The ends of the student's responses under a recipe of one teacher."""
    folder = _teacher_folder(recipe)
    teacher = None if folder is None else outline(folder, template=recipe.teacher.template)
    chat, teach = recipe.sft.format == "chat", recipe.sft.end == "teacher"
    return response_ends(student, teacher, teach=teach, chat=chat)


def pair_revision(recipe: Recipe) -> dict[str, int]:
    """The part of SFT's identity that says how the ends of the recipe's pair are chosen; see `ends_revision`."""
    student = model_path(recipe.student.model)
    revisions = [ends_revision(student, _teacher_folder(own)) for own in recipe.by_teacher.values()]
    return {name: number for each in revisions for name, number in each.items()}


def rendering_revision(recipe: Recipe) -> dict[str, Any]:
    """The part of SFT's identity that says how prompts and responses become token ids; see `template_revision`.

    A response from an endpoint may end a thought that its prompt has opened.
    """
    served = {"thoughts": 2} if any(map(_may_end_a_thought, recipe.by_teacher.values())) else {}
    return {**template_revision(model_path(recipe.student.model), recipe.student), **served}


def _may_end_a_thought(recipe: Recipe) -> bool:
    folder, teacher = _teacher_folder(recipe), recipe.teacher
    theirs = template_revision(folder, teacher) if folder is not None else {}
    return teacher.is_endpoint or "thoughts" in theirs


def _teacher_folder(recipe: Recipe) -> Path | None:
    """The folder of a teacher that is here; one that only answered once may be elsewhere by now."""
    try:
        return model_path(recipe.teacher.model) if recipe.teacher.is_folder else None
    except ModelError:
        return None
