"""Instructions that a program can check: about the form of an arithmetic answer, and everyday chat requests.

The shipped teacher follows them; mid-training can lose this ability, and recovery restores it.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

# The second half of a prompt that asks for a solution with chain of thought.
THINK = "Think step by step."

_ONES = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
]
_TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
_WORDS = [
    "kite",
    "lamp",
    "river",
    "stone",
    "cloud",
    "apple",
    "chair",
    "table",
    "bread",
    "green",
    "night",
    "paper",
    "light",
    "water",
    "horse",
    "music",
    "glass",
    "plant",
    "clock",
    "snow",
]


def in_words(number: int) -> str:
    """0..999 in English words: 142 -> `one hundred forty two`."""
    if number < 20:
        return _ONES[number]
    if number < 100:
        tens, ones = divmod(number, 10)
        return _TENS[tens - 2] + (f" {_ONES[ones]}" if ones else "")
    hundreds, rest = divmod(number, 100)
    return f"{_ONES[hundreds]} hundred" + (f" {in_words(rest)}" if rest else "")


def says_in_words(answer: str, gold: str, question: str, response: str) -> bool:
    """Whether an answer is the number `gold` in English words: a verifier (`triples.verifier`) of this form."""
    return gold.isdecimal() and int(gold) < 1000 and answer.strip().rstrip(".") == in_words(int(gold))


def plain(rationale: str, answer: int) -> str:
    """The usual form: the rationale, then `Answer: 63` on a line of its own."""
    return f"{rationale}\nAnswer: {answer}"


@dataclass(frozen=True)
class Instruction:
    """A sentence added to a question, and the response that obeys it.

    `respond(rationale, answer)` is the whole expected response; `obeyed(response, answer)` checks the form and the
    answer of any response, whatever its rationale.
    """

    name: str
    sentence: str
    respond: Callable[[str, int], str]
    obeyed: Callable[[str, int], bool]


def _numbered(rationale: str) -> str:
    steps = [step.strip(" .") for step in rationale.split(". ")]
    return " ".join(f"{i}) {step}." for i, step in enumerate(steps, 1))


def _ends(response: str, ending: str) -> bool:
    return response.rstrip().endswith(ending)


INSTRUCTIONS: tuple[Instruction, ...] = (
    Instruction(
        "only_answer",
        "Give only the answer.",
        lambda r, a: f"Answer: {a}",
        lambda response, a: response.strip() == f"Answer: {a}",
    ),
    Instruction(
        "words",
        "Write the answer in words.",
        lambda r, a: f"{r}\nAnswer: {in_words(a)}",
        lambda response, a: _ends(response, f"\nAnswer: {in_words(a)}"),
    ),
    Instruction(
        "brackets",
        "Put the answer in brackets.",
        lambda r, a: f"{r}\nAnswer: [{a}]",
        lambda response, a: _ends(response, f"\nAnswer: [{a}]"),
    ),
    Instruction(
        "sure",
        "Begin with Sure.",
        lambda r, a: f"Sure. {r}\nAnswer: {a}",
        lambda response, a: response.startswith("Sure. ") and _ends(response, f"\nAnswer: {a}"),
    ),
    Instruction(
        "done",
        "End with Done.",
        lambda r, a: f"{r}\nAnswer: {a}\nDone.",
        lambda response, a: _ends(response, f"\nAnswer: {a}\nDone."),
    ),
    Instruction(
        "numbered",
        "Number the steps.",
        lambda r, a: f"{_numbered(r)}\nAnswer: {a}",
        lambda response, a: response.startswith("1) ") and _ends(response, f"\nAnswer: {a}"),
    ),
    Instruction(
        "twice",
        "Say the answer twice.",
        lambda r, a: f"{r}\nAnswer: {a}\nAnswer: {a}",
        lambda response, a: _ends(response, f"\nAnswer: {a}\nAnswer: {a}"),
    ),
)


@dataclass(frozen=True)
class Request:
    """A chat request that has exactly one right reply."""

    name: str
    prompt: str
    reply: str


def draw_request(rng: random.Random) -> Request:
    """One everyday request: greet, repeat, count, reverse, or pick."""
    words = rng.sample(_WORDS, 4)
    name = rng.choice(("greet", "repeat", "count", "reverse", "pick", "shout"))
    if name == "greet":
        greeting = rng.choice(("Hello.", "Good morning.", "Good evening."))
        return Request(name, greeting, f"{greeting} How can I help?")
    if name == "repeat":
        times = rng.randint(2, 5)
        prompt = f"Repeat the word {words[0]} {_ONES[times]} times."
        return Request(name, prompt, " ".join([words[0]] * times))
    if name == "count":
        start = rng.randint(1, 30)
        stop = start + rng.randint(2, 8)
        numbers = " ".join(str(n) for n in range(start, stop + 1))
        return Request(name, f"Count from {start} to {stop}.", numbers)
    if name == "reverse":
        prompt = f"Write these words in reverse order: {' '.join(words)}."
        return Request(name, prompt, " ".join(reversed(words)))
    if name == "pick":
        place = rng.randint(0, 3)
        ordinal = ("first", "second", "third", "fourth")[place]
        prompt = f"Which is the {ordinal} of these words: {' '.join(words)}?"
        return Request(name, prompt, words[place])
    return Request(name, f"Write {words[0]} in capital letters.", words[0].upper())
