"""Maker of the shipped world: tokenizer, teacher, base student, handbooks, and the card with their scores.

    python -m cohobate.experiments.world.make data/world

Takes about forty minutes on two CPU cores. Weights are rounded to 16 bits, as they are shipped, before they are
measured.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from cohobate.experiments.world import corpus
from cohobate.experiments.world.measure import measure
from cohobate.experiments.world.tokenizer import CONTEXT, END, PAD, train_tokenizer
from cohobate.sources.world import handbook

Draw = Callable[[random.Random], corpus.Sample]
_CHUNKS = 4  # of a batch, each padded to its own longest row
HANDBOOK_SEEDS = {"handbook": 0, "handbook-2": 1}


def model_config(tokenizer: PreTrainedTokenizerFast, *, width: int, layers: int, heads: int, inner: int) -> Qwen3Config:
    """A small Qwen3: heads of 32, tied embeddings, no dropout."""
    return Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=inner,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        head_dim=32,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        eos_token_id=tokenizer.convert_tokens_to_ids(END),
        pad_token_id=tokenizer.convert_tokens_to_ids(PAD),
        bos_token_id=None,
    )


def encode(draw: Draw, tokenizer_folder: str, count: int, seed: int) -> tuple[list[list[int]], list[list[int]]]:
    """Token ids and loss masks of `count` samples; the pieces of a sample are tokenized one by one."""
    tokenizer = PreTrainedTokenizerFast.from_pretrained(tokenizer_folder)
    rng = random.Random(f"corpus-{seed}")
    samples = [draw(rng) for _ in range(count)]
    pieces = [text for sample in samples for text, _ in sample]
    encoded = iter(tokenizer.backend_tokenizer.encode_batch(pieces, add_special_tokens=False))
    ids, masks = [], []
    for sample in samples:
        parts = [(next(encoded).ids, learn) for _, learn in sample]
        ids.append([i for part, _ in parts for i in part])
        masks.append([int(learn) for part, learn in parts for _ in part])
    return ids, masks


class Corpus:
    """Encoded samples, sorted by length."""

    def __init__(self, draw: Draw, tokenizer_folder: str, count: int, workers: int, pad_id: int) -> None:
        shard = partial(encode, draw, tokenizer_folder, count // workers)
        with ProcessPoolExecutor(workers) as pool:
            shards = list(pool.map(shard, range(workers)))
        rows = [row for ids, masks in shards for row in zip(ids, masks, strict=True)]
        rows.sort(key=lambda row: len(row[0]))
        self.rows, self.pad_id = rows, pad_id

    def batch(self, rng: np.random.Generator, size: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """A random batch in chunks of similar length, so that little padding is computed.

        Yields (ids, labels) of shape [rows, longest]; labels are -100 outside the loss.
        """
        chosen = np.sort(rng.integers(0, len(self.rows), size))
        for chunk in np.array_split(chosen, _CHUNKS):
            rows = [self.rows[i] for i in chunk]
            longest = max(len(ids) for ids, _ in rows)
            ids = np.full((len(rows), longest), self.pad_id)
            labels = np.full((len(rows), longest), -100)
            for i, (tokens, mask) in enumerate(rows):
                ids[i, : len(tokens)] = tokens
                labels[i, : len(tokens)] = np.where(mask, tokens, -100)
            yield torch.from_numpy(ids), torch.from_numpy(labels)


def fit(model: Any, data: Corpus, *, steps: int, batch: int, lr: float, device: str, label: str) -> None:
    """AdamW with warm-up and cosine decay to a twentieth; next-token loss on the pieces marked `learn`."""
    rng = np.random.default_rng(0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, betas=(0.9, 0.95), weight_decay=0.01)

    def factor(step: int) -> float:
        cosine = 0.5 * (1 + float(np.cos(np.pi * step / steps)))
        return min(1.0, (step + 1) / 200) * (0.05 + 0.95 * cosine)

    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
    started = time.monotonic()
    for step in range(steps):
        total = 0.0
        for chunk_ids, chunk_labels in data.batch(rng, batch):
            ids, labels = chunk_ids.to(device), chunk_labels.to(device)
            logits = model(input_ids=ids[:, :-1]).logits
            loss = torch.nn.functional.cross_entropy(
                logits.flatten(0, 1).float(), labels[:, 1:].flatten(), ignore_index=-100
            )
            (loss / _CHUNKS).backward()
            total += loss.item() / _CHUNKS
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        schedule.step()
        if step % 50 == 0 or step == steps - 1:
            elapsed = time.monotonic() - started
            print(f"{label} step {step} loss {total:.4f} {elapsed:.0f} s", flush=True)


def round_weights(model: Any) -> None:
    """Round every weight to float16 and back, in place."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(parameter.half().to(parameter.dtype))


def ship(model: Any, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Save the float16 weights, the configuration and the tokenizer as a Hugging Face folder."""
    model.half().save_pretrained(folder)
    tokenizer.save_pretrained(folder)


SHAPES = {
    "base": {"width": 96, "layers": 3, "heads": 3, "inner": 256},
    "teacher": {"width": 192, "layers": 4, "heads": 6, "inner": 512},
}
CORPORA: dict[str, Draw] = {"base": corpus.draw_base_sample, "teacher": corpus.draw_teacher_sample}


def make_model(name: str, folder: Path, *, steps: int, batch: int, samples: int, workers: int) -> dict[str, Any]:
    """Train, round, ship and measure one model; returns its entry in the card."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(0)
    tokenizer = world_tokenizer(folder / name)
    model = Qwen3ForCausalLM(model_config(tokenizer, **SHAPES[name])).to(device)
    pad_id = tokenizer.convert_tokens_to_ids(PAD)
    data = Corpus(CORPORA[name], str(folder / name), samples, workers, pad_id)
    fit(model, data, steps=steps, batch=batch, lr=2e-3, device=device, label=name)
    round_weights(model)
    facts = {"parameters": model.num_parameters(), "steps": steps, "batch": batch}
    ship(model, tokenizer, folder / name)
    return {**facts, **measure(model.float().eval(), tokenizer)}


def world_tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    """Train the tokenizer on samples of the teacher, not on a handbook, and save it in `folder`."""
    rng = random.Random("tokenizer")
    texts = ["".join(text for text, _ in corpus.draw_teacher_sample(rng)) for _ in range(20_000)]
    return train_tokenizer(texts, folder)


def write_handbooks(folder: Path) -> None:
    """The handbooks of the invented companies as Markdown, with practice and exam questions."""
    for name, seed in HANDBOOK_SEEDS.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        firm = handbook.company(seed)
        for file, text in (*handbook.documents(firm), *handbook.questions(firm)):
            (folder / name / file).write_text(text, encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--models", nargs="*", choices=list(SHAPES), default=list(SHAPES))
    parser.add_argument("--steps", type=int, help="default: 1600 for the teacher, 4000 for the base")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--samples", type=int, default=300_000)
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    card_path = arguments.folder / "card.json"
    card = json.loads(card_path.read_text(encoding="utf-8")) if card_path.exists() else {"models": {}}
    for name in arguments.models:
        card["models"][name] = make_model(
            name,
            arguments.folder,
            steps=arguments.steps or {"teacher": 1600, "base": 4000}[name],
            batch=arguments.batch,
            samples=arguments.samples,
            workers=arguments.workers,
        )
    write_handbooks(arguments.folder)
    card_path.write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(card, indent=2))


if __name__ == "__main__":
    main()
