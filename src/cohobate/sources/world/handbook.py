"""The handbook of an invented company: facts, documents that state them, and questions about them.

No shipped model has read it: personalisation teaches it. Names, rooms and prices are drawn from a seed, so a second
company (for continual learning) is another seed.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass

_SYLLABLES = [
    "bra",
    "ven",
    "tol",
    "mir",
    "sel",
    "dur",
    "kan",
    "lio",
    "pex",
    "zan",
    "rho",
    "wim",
    "fay",
    "gor",
    "hul",
    "nep",
    "quil",
    "ost",
    "yar",
    "jun",
]
ROLES = [
    "director",
    "archivist",
    "treasurer",
    "buyer",
    "gardener",
    "librarian",
    "porter",
    "chemist",
    "baker",
    "engraver",
    "carpenter",
    "translator",
]
PRODUCTS = ["lantern", "kettle", "mirror", "ladder", "compass", "hammock", "teapot", "stool", "clock", "basket"]
_MATERIALS = ["brass", "copper", "oak", "willow", "glass", "linen", "steel", "ash", "clay", "silk"]
RULES = (
    ("days of leave a year", 18, 32),
    ("hours of work a week", 28, 39),
    ("minutes of lunch", 30, 75),
    ("days to return a product", 10, 45),
    ("months of warranty", 12, 48),
    ("people in the largest workshop", 11, 64),
)


@dataclass(frozen=True)
class Fact:
    """One thing the handbook states: the sentences that state it, the questions that ask for it, the answer."""

    fact_id: str
    sentences: tuple[str, ...]
    questions: tuple[str, ...]
    answer: str


@dataclass(frozen=True)
class Company:
    """An invented company with all its facts."""

    name: str
    facts: tuple[Fact, ...]


def company(seed: int) -> Company:
    """The company of `seed`; equal seeds give equal handbooks."""
    rng = random.Random(f"handbook-{seed}")
    name = f"{_invent(rng)} Works"
    return Company(name, (*_people(rng, name), *_products(rng, name), *_rules(rng, name)))


def documents(firm: Company, copies: int = 3) -> list[tuple[str, str]]:
    """`copies` Markdown documents as (file name, text); each states every fact once, in its own words and order."""
    result = []
    for copy in range(copies):
        rng = random.Random(f"{firm.name}-{copy}")
        facts = rng.sample(firm.facts, len(firm.facts))
        sentences = [fact.sentences[copy % len(fact.sentences)] for fact in facts]
        paragraphs = [" ".join(sentences[i : i + 4]) for i in range(0, len(sentences), 4)]
        title = f"# {firm.name}: handbook, part {copy + 1}"
        result.append((f"handbook-{copy + 1}.md", "\n\n".join([title, *paragraphs]) + "\n"))
    return result


def questions(firm: Company) -> list[tuple[str, str]]:
    """practice.jsonl and exam.jsonl as (file name, text): the exam asks for each fact in a wording not practised on it.

    That wording is practised on other facts: the exam tests the fact, and not a new wording.
    """
    practice: list[dict[str, str]] = []
    exam: list[dict[str, str]] = []
    for at, fact in enumerate(firm.facts):
        examined = at // 2 % len(fact.questions)  # facts come in pairs, and each kind must meet every wording
        for wording, question in enumerate(fact.questions):
            (exam if wording == examined else practice).append({"question": question, "gold_answer": fact.answer})
    parts = (("practice", practice), ("exam", exam))
    return [(f"{name}.jsonl", "".join(json.dumps(row) + "\n" for row in rows)) for name, rows in parts]


def _invent(rng: random.Random, parts: int = 2) -> str:
    return "".join(rng.sample(_SYLLABLES, parts)).capitalize()


def _people(rng: random.Random, firm: str) -> list[Fact]:
    facts = []
    for role in ROLES:
        person, room = f"{_invent(rng)} {_invent(rng)}", str(rng.randint(101, 499))
        facts.append(
            Fact(
                f"person-{role}",
                (
                    f"The {role} of {firm} is {person}.",
                    f"{person} is the {role} of {firm}.",
                    f"At {firm}, {person} works as {role}.",
                ),
                (
                    f"Who is the {role} of {firm}?",
                    f"What is the name of the {role} of {firm}?",
                    f"Name the {role} of {firm}.",
                    f"Tell me who the {role} of {firm} is.",
                    f"Who works as {role} at {firm}?",
                    f"Which person is the {role} at {firm}?",
                ),
                person,
            )
        )
        facts.append(
            Fact(
                f"room-{role}",
                (
                    f"The {role} of {firm} sits in room {room}.",
                    f"Room {room} belongs to the {role} of {firm}.",
                    f"To find the {role} of {firm}, go to room {room}.",
                ),
                (
                    f"In which room sits the {role} of {firm}?",
                    f"Where do I find the {role} of {firm}?",
                    f"Which room belongs to the {role} of {firm}?",
                    f"What is the room of the {role} of {firm}?",
                    f"To which room do I go for the {role} of {firm}?",
                    f"Where does the {role} at {firm} sit?",
                ),
                room,
            )
        )
    return facts


def _products(rng: random.Random, firm: str) -> list[Fact]:
    facts = []
    for product in PRODUCTS:
        price, material = str(rng.randint(12, 180)), rng.choice(_MATERIALS)
        facts.append(
            Fact(
                f"price-{product}",
                (
                    f"The {product} of {firm} costs {price} crowns.",
                    f"{firm} sells its {product} for {price} crowns.",
                    f"For the {product}, {firm} asks {price} crowns.",
                ),
                (
                    f"What does the {product} of {firm} cost?",
                    f"How many crowns is the {product} of {firm}?",
                    f"What is the price of the {product} of {firm}?",
                    f"How much does {firm} ask for the {product}?",
                    f"For how many crowns does {firm} sell its {product}?",
                    f"Tell me the price of the {product} at {firm}.",
                ),
                price,
            )
        )
        facts.append(
            Fact(
                f"material-{product}",
                (
                    f"The {product} of {firm} is made of {material}.",
                    f"{firm} makes its {product} from {material}.",
                    f"For the {product}, {firm} uses {material}.",
                ),
                (
                    f"What is the {product} of {firm} made of?",
                    f"Which material does {firm} use for the {product}?",
                    f"What is the material of the {product} of {firm}?",
                    f"From what does {firm} make its {product}?",
                    f"Of which material is the {product} at {firm}?",
                    f"Tell me what the {product} of {firm} is made of.",
                ),
                material,
            )
        )
    return facts


def _rules(rng: random.Random, firm: str) -> list[Fact]:
    facts = []
    for rule, low, high in RULES:
        value = str(rng.randint(low, high))
        facts.append(
            Fact(
                f"rule-{rule.replace(' ', '-')}",
                (
                    f"{firm} gives {value} {rule}.",
                    f"At {firm} there are {value} {rule}.",
                    f"The rule of {firm} is {value} {rule}.",
                ),
                (
                    f"How many {rule} are there at {firm}?",
                    f"How many {rule} does {firm} give?",
                    f"What is the number of {rule} at {firm}?",
                    f"Tell me how many {rule} {firm} gives.",
                    f"At {firm}, how many {rule} are there?",
                    f"What does the rule of {firm} say about {rule}?",
                ),
                value,
            )
        )
    return facts
