"""Questions of everyday tasks that a small chat model can answer, each with a check of the answer by code.

Capitals, opposites, word forms, kinds of things, sentences with a given word, what a short text says. Sums, the
calendar and Spanish were tried and left out: SmolLM2-135M has nothing to teach there. A question's split is decided by
the hash of its text.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import product

from cohobate.sources.base import Question, question_id
from cohobate.sources.world.splits import share_of

# Percent of the questions.
SHARES = {"test": 36, "validation": 8, "train": 22, "fresh": 34}

_CAPITALS = (
    "France Paris,Germany Berlin,Italy Rome,Spain Madrid,Portugal Lisbon,Greece Athens,Poland Warsaw,Sweden Stockholm,"
    "Norway Oslo,Finland Helsinki,Denmark Copenhagen,Ireland Dublin,Austria Vienna,Hungary Budapest,Romania Bucharest,"
    "Bulgaria Sofia,Belgium Brussels,Russia Moscow,Ukraine Kyiv,Turkey Ankara,Egypt Cairo,Kenya Nairobi,Japan Tokyo,"
    "China Beijing,India Delhi,Thailand Bangkok,Vietnam Hanoi,Iran Tehran,Iraq Baghdad,Cuba Havana,Peru Lima,"
    "Chile Santiago,Canada Ottawa,Australia Canberra,Argentina Buenos_Aires,Mexico Mexico_City,Syria Damascus,"
    "Lebanon Beirut,Jordan Amman,Indonesia Jakarta,Nepal Kathmandu,Iceland Reykjavik,Croatia Zagreb,Serbia Belgrade"
)
_OPPOSITES = (
    "hot cold,big small,happy sad,fast slow,up down,light dark,old young,rich poor,hard soft,wet dry,full empty,"
    "open closed,loud quiet,early late,strong weak,clean dirty,near far,high low,thick thin,sweet sour,true false,"
    "good bad,left right,day night,black white,begin end,love hate,win lose,buy sell,push pull"
)
_PLURALS = (
    "child children,mouse mice,foot feet,tooth teeth,man men,woman women,goose geese,leaf leaves,knife knives,"
    "wolf wolves,city cities,baby babies,box boxes,bus buses,potato potatoes,cat cats,book books,house houses,"
    "dish dishes,story stories,shelf shelves,lady ladies,fox foxes,apple apples,key keys"
)
_PASTS = (
    "run ran,go went,eat ate,see saw,take took,give gave,write wrote,drive drove,sing sang,swim swam,buy bought,"
    "think thought,bring brought,teach taught,catch caught,speak spoke,break broke,sleep slept,make made,find found,"
    "walk walked,play played,fly flew,drink drank,begin began"
)
_KINDS = {
    "fruit": "apple banana cherry grape mango peach pear plum",
    "vegetable": "carrot cabbage spinach broccoli onion potato lettuce celery",
    "animal": "dog horse rabbit tiger elephant sheep monkey goat",
    "colour": "red blue green yellow purple orange",
    "tool": "hammer saw screwdriver drill wrench shovel",
    "vehicle": "car bus train bicycle truck boat",
    "piece of furniture": "table chair bed sofa desk wardrobe",
}
_WORDS = (
    "river garden bridge winter teacher window music bicycle mountain letter kitchen forest train doctor market "
    "summer island pencil bakery storm library piano harbour candle farmer lantern rabbit castle painter desert "
    "ocean ticket blanket neighbour orchard sailor village mirror pillow tower"
)
_PEOPLE = ["Anna", "Ben", "Clara", "David", "Emma", "Frank", "Grace", "Henry"]
_PLACES = ["London", "Paris", "Rome", "Boston", "Tokyo", "Berlin", "Madrid", "Chicago"]
_JOBS = ["baker", "nurse", "pilot", "teacher", "painter", "farmer"]


def generate() -> Iterator[Question]:
    """All questions, each once; the gold answer is a phrase, or a JSON object, as the verifier `checks` reads them."""
    for kind, text, check in _drawn():
        split = share_of(text, SHARES)
        gold = check if isinstance(check, str) else json.dumps(check, ensure_ascii=False)
        yield Question(question_id(text), text, gold, split=split, kind=kind)


def _article(noun: str) -> str:
    return "an" if noun[0] in "aeiou" else "a"


def _pairs(text: str) -> Iterator[tuple[str, str]]:
    for pair in text.split(","):
        first, _, second = pair.partition(" ")
        yield first.replace("_", " "), second.replace("_", " ")


def _drawn() -> Iterator[tuple[str, str, str | dict[str, object]]]:
    """kind, question, check."""
    for country, capital in _pairs(_CAPITALS):
        yield "capital", f"What is the capital of {country}?", capital
    for word, other in _pairs(_OPPOSITES):
        yield "opposite", f"What is the opposite of {word}?", other
        yield "opposite", f"What is the opposite of {other}?", word
    for word, form in _pairs(_PLURALS):
        yield "plural", f'What is the plural of the word "{word}"?', form
    for word, form in _pairs(_PASTS):
        yield "past", f'What is the past tense of the verb "{word}"?', form
    for kind, members in _KINDS.items():
        others = [other for other in _KINDS if other != kind and {other, kind} != {"colour", "fruit"}]
        for member, other in product(members.split(), others[:2]):
            first, second = sorted((kind, other), key=lambda each: (len(each) + len(member)) % 2)
            text = f"What is {member}: {_article(first)} {first} or {_article(second)} {second}?"
            yield "kind", text, {"any": [kind], "none": [f"is {_article(other)} {other}"]}
    for word in _WORDS.split():
        yield "sentence", f'Write one short sentence with the word "{word}".', {"any": [word], "words": [3, 25]}
    yield from _texts()


def _texts() -> Iterator[tuple[str, str, str | dict[str, object]]]:
    for at, (person, place) in enumerate(product(_PEOPLE, _PLACES)):
        job = _JOBS[(at + at // len(_PLACES)) % len(_JOBS)]
        text = f"{person} lives in {place} and works as a {job}."
        yield "reading", f"{text} Where does {person} live?", place
        yield "reading", f"{text} What is the job of {person}?", job
        yield "reading", f"{text} What is the name of the {job}?", person
