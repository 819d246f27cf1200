"""Read a model's folder, or refuse it in one sentence: weights that are all there, and a tokenizer that fits them.

Weights are read from safetensors alone: a pickled file runs code of its own when it is read.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cohobate.core.errors import ModelError
from cohobate.core.sanitize import one_line
from cohobate.models.model_class import model_class
from cohobate.models.padding_row import restore_padding_rows
from cohobate.models.quantisation import made_whole, method_of, to_be_read, without_package

if TYPE_CHECKING:
    import torch

# Parts of a checkpoint that a model of text leaves out: towers for images and sound, heads that predict further tokens.
_OTHER_PARTS = re.compile(r"visual|vision|image|audio|speech|multi_?modal|mtp|nextn|rotary_emb|inv_freq")
_NAMED = 3


def read_tokenizer(path: Path, template: str | None = None) -> Any:
    """The tokenizer of a folder, with `template` in place of its own. Raises ModelError with one sentence."""
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=False)
    except Exception as error:  # transformers and tokenizers raise what they like
        raise _without_tokenizer(path, one_line(error)[:300]) from error
    files = [*getattr(tokenizer, "vocab_files_names", {}).values(), "tekken.json"]
    if len(files) > 1 and not any((path / file).is_file() for file in files):  # transformers makes an empty one
        raise _without_tokenizer(path, f"there is none of {', '.join(sorted(files))}")
    if template is not None:
        tokenizer.chat_template = template
    return tokenizer


def _without_tokenizer(path: Path, why: str) -> ModelError:
    return ModelError(
        f"the tokenizer of model '{path}' cannot be read; copy the model's tokenizer.json into the folder, or what "
        f"else its tokenizer is made of ({why})"
    )


def read_model(path: Path, dtype: torch.dtype, device: str, *, train: bool) -> Any:
    """The language model of a folder; raises what transformers raises, and ModelError where weights lack."""
    refuse_pickles(path)
    config = to_be_read(path, read_config(path), device, train=train)
    try:
        auto = model_class(config)
    except ModelError as error:
        raise ModelError(f"model '{path}' cannot be loaded: {error}") from error
    quantised = method_of(config) is not None
    how: dict[str, Any] = {"use_safetensors": True, "output_loading_info": True, "ignore_mismatched_sizes": True}
    try:
        with _silent():  # of weights that lack, which `refuse_other_weights` says in one line
            model, report = auto.from_pretrained(path, config=config, dtype=dtype, **how)
    except ImportError as error:
        raise without_package(path, config, error) from error
    refuse_other_weights(path, report)
    model = made_whole(model, dtype) if quantised else model
    restore_padding_rows(path, model)
    _make_saveable(path, model)
    return model


def read_config(path: Path) -> Any:
    """The config of a folder. Raises what transformers raises, and ModelError for a model of its own code."""
    from transformers import AutoConfig

    content = json.loads((path / "config.json").read_text(encoding="utf-8"))
    try:
        return AutoConfig.from_pretrained(path, trust_remote_code=False)
    except ValueError as error:
        if content.get("auto_map"):
            raise ModelError(
                f"model '{path}' is of type {content.get('model_type')}, which transformers does not know; it brings "
                "code of its own, which is not run; choose another model"
            ) from error
        raise


@contextmanager
def _silent() -> Iterator[None]:
    """Without the warnings of transformers."""
    from transformers.utils import logging

    level = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)


def refuse_pickles(path: Path) -> None:
    """Raise ModelError where the only weights of a folder are pickled."""
    pickled = sorted(each.name for each in path.glob("*.bin") if "training_args" not in each.name)
    if pickled and not any(path.glob("*.safetensors")):
        raise ModelError(
            f"model '{path}' has its weights in {pickled[0]}, a pickled file, which runs code when it is read; "
            "save them as safetensors (`model.save_pretrained` of a model that you trust does)"
        )


def refuse_tokens_without_embedding(path: Path, tokenizer: Any, rows: int) -> None:
    """Raise ModelError where text can become an id behind the `rows` of the embedding.

    Special tokens that no chat template writes are harmless there: Gemma 3 has one for images in models of text.
    """
    if len(tokenizer) <= rows:
        return
    template = str(getattr(tokenizer, "chat_template", None) or "")
    special = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    beyond = {token: i for token, i in tokenizer.get_vocab().items() if i >= rows}
    used = sorted((i, token) for token, i in beyond.items() if i not in special or token in template)
    if used:
        number, token = used[0]
        raise ModelError(
            f"model '{path}' has an embedding of {rows} tokens, but its tokenizer makes id {number} of {token!r}; "
            "give the tokenizer that the model was trained with, or resize the embedding and train it"
        )


def refuse_other_weights(path: Path, report: Any) -> None:
    """Raise ModelError where the checkpoint has not exactly the weights of the model."""
    mismatched = [item[0] if isinstance(item, tuple) else item for item in _names(report, "mismatched_keys")]
    unused = [name for name in _names(report, "unexpected_keys") if not _OTHER_PARTS.search(name)]
    for names, words in (
        (_names(report, "missing_keys"), "lacks weights that its config asks for"),
        (mismatched, "has weights of other shapes than its config says"),
        (unused, "has weights that its config has no place for"),
    ):
        if names:
            more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
            raise ModelError(
                f"model '{path}' {words}: {', '.join(map(str, names[:_NAMED]))}{more}; fetch the checkpoint again, "
                "with the config.json that belongs to it"
            )


def _names(report: Any, key: str) -> list[Any]:
    value = report.get(key) if isinstance(report, dict) else getattr(report, key, None)
    return sorted(value or ())


def _make_saveable(path: Path, model: Any) -> None:
    """Let the generation config be saved: settings of sampling in it mean that the model is meant to be sampled."""
    generation = model.generation_config
    try:
        generation.validate(strict=True)
    except ValueError:
        generation.do_sample = True
        try:
            generation.validate(strict=True)
        except ValueError as error:
            why = one_line(error)[:300]
            raise ModelError(f"the generation_config.json of model '{path}' is not valid: {why}") from error
