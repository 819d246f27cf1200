"""Damage to files: flipped bits and cut ends."""

import random
from collections.abc import Iterator


def flipped(content: bytes, place: int, bit: int) -> bytes:
    return content[:place] + bytes([content[place] ^ (1 << bit)]) + content[place + 1 :]


def damages(content: bytes, count: int, seed: int) -> Iterator[bytes]:
    """`content` with one bit flipped, and then cut, at `count` places over all of it, its ends among them."""
    draw = random.Random(seed)
    inner = draw.sample(range(1, len(content) - 1), min(count, len(content)) - 2)
    places = [0, *sorted(inner), len(content) - 1]
    for place in places:
        yield flipped(content, place, draw.randrange(8))
    for place in places:
        yield content[:place]
