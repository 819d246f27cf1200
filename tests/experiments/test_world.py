"""The shipped models of the world: what they were not trained on, and that they score what their card says."""

import hashlib
import json
import random
import re
import struct
from pathlib import Path

import pytest

from cohobate.config import Questions
from cohobate.sources.world import handbook
from cohobate.sources.world.instructions import INSTRUCTIONS
from cohobate.sources.world.splits import generate

WORLD = Path(__file__).parents[2] / "data" / "world"
CARD = json.loads((WORLD / "card.json").read_text(encoding="utf-8"))


def test_no_shipped_model_was_trained_on_held_out_questions_or_a_handbook() -> None:
    from cohobate.experiments.world.corpus import draw_base_sample, draw_teacher_sample

    names = [handbook.company(seed).name.removesuffix(" Works") for seed in (0, 1)]
    held_out = asked = 0
    for draw in (draw_teacher_sample, draw_base_sample):
        rng = random.Random(0)
        for _ in range(1500):
            text = "".join(piece for piece, _ in draw(rng))
            assert not any(name in text for name in names)
            question = re.search(r"What is [^?]*\d[^?]*\?|\w+ has \d[^?]*\?", text)
            if question:
                asked += 1
                bucket = int.from_bytes(hashlib.sha256(question[0].encode()).digest()[:4], "big") % 100
                held_out += bucket < 20  # test: 0..14, validation: 15..19
    assert asked > 1000 and held_out == 0


@pytest.mark.parametrize("name", ["teacher", "base"])
def test_the_card_says_what_was_shipped_and_what_it_scores(name: str) -> None:
    card = CARD["models"][name]
    content = (WORLD / name / "model.safetensors").read_bytes()
    (length,) = struct.unpack("<Q", content[:8])  # the format: length of the header, header, tensors
    tensors = [value for key, value in json.loads(content[8 : 8 + length]).items() if key != "__metadata__"]
    sizes = [end - begin for begin, end in (tensor["data_offsets"] for tensor in tensors)]
    assert {tensor["dtype"] for tensor in tensors} == {"F16"}
    assert card["parameters"] == sum(sizes) // 2
    assert {"test", "hard"} == set(card["greedy"]) == set(card["sampled"]) == set(card["questions"])
    assert set(card["instructions"]) == {*(i.name for i in INSTRUCTIONS), "requests"}
    shares = [*card["greedy"].values(), *card["sampled"].values(), *card["instructions"].values()]
    assert all(0 <= share <= 1 for share in shares)


def test_the_teacher_can_what_the_base_cannot() -> None:
    teacher, base = CARD["models"]["teacher"], CARD["models"]["base"]
    assert teacher["greedy"]["test"] > 0.9 > teacher["greedy"]["hard"] > 0.3
    assert max(base["greedy"].values()) < 0.1


def test_the_teacher_scores_what_its_card_says() -> None:
    from cohobate.experiments.world.measure import GREEDY, respond
    from cohobate.models.loading import load
    from cohobate.sources.world.instructions import THINK

    loaded, count = load("world/teacher", device="cpu"), 100
    rows = list(generate(Questions(seed=3), {"test": count}))
    prompts = [f"{row.text} {THINK}" for row in rows]
    replies = respond(loaded.model, loaded.tokenizer, prompts, GREEDY)
    answers = [reply.rpartition("Answer: ")[2] for reply in replies]
    right = sum(answer == row.gold_answer for answer, row in zip(answers, rows, strict=True))
    share = CARD["models"]["teacher"]["greedy"]["test"]
    assert abs(right / count - share) < 4 * (share * (1 - share) / count) ** 0.5


def test_the_shipped_world_is_small() -> None:
    assert sum(path.stat().st_size for path in WORLD.rglob("*") if path.is_file()) < 30_000_000
