"""Instructions about the form of a reply whose obedience code can check: IFEval's kind, for small models.

Capitals, lower case, numbers of words, numbered and bulleted lists, JSON, forbidden and wanted words, how a reply
begins and ends. A prompt's split is decided by the hash of its text.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

from cohobate.sources.base import Question, question_id
from cohobate.sources.world.splits import share_of

SHARES = {"test": 46, "validation": 7, "train": 20, "fresh": 27}

_TOPICS = (
    "a cat,the sea,winter,a bicycle,bread,the moon,a library,music,a garden,rain,a train,coffee,a school,"
    "friendship,an old house,football,a river,tea,a birthday,the sun,a bakery,snow,a mountain,a dog,books,"
    "a market,the night,summer,a bridge,a painter,the forest,milk,a doctor,a farm,the city,an island,a letter,"
    "dreams,a clock,honey,a kitchen,the wind,a ship,chess,a castle,a horse,the desert,cheese,a violin,the stars,"
    "a teacher,a lake,spring,a mirror,a street,autumn"
)
_LISTS = (
    "animals,fruits,colours,cities,sports,drinks,tools,countries,flowers,kinds of weather,vegetables,birds,"
    "rooms of a house,school subjects,rivers,musical instruments,hobbies,trees,desserts,planets"
)
_FORBIDDEN = ("and", "is", "the", "very")
_RECORDS = (
    ("name", "age", "Anna, who is 31 years old"),
    ("city", "country", "Paris in France"),
    ("title", "author", "Hamlet by Shakespeare"),
    ("animal", "legs", "a horse with four legs"),
    ("product", "price", "a lamp for 20 dollars"),
    ("day", "weather", "a sunny Monday"),
    ("fruit", "colour", "a yellow banana"),
    ("person", "job", "Ben, who is a baker"),
    ("film", "year", "a film of 1999"),
    ("car", "speed", "a car at 90 km/h"),
    ("room", "floor", "room 12 on the third floor"),
    ("dish", "calories", "a soup with 200 calories"),
    ("team", "goals", "a team with three goals"),
    ("planet", "moons", "Mars with two moons"),
    ("language", "speakers", "Danish with six million speakers"),
    ("shop", "opens", "a shop that opens at nine"),
)
_COUNTS = {2: "two", 3: "three", 4: "four", 5: "five"}


def generate() -> Iterator[Question]:
    """All prompts, each once; the gold answer is a JSON object as the verifier `checks` reads it."""
    for kind, text, check in _drawn():
        split = share_of(text, SHARES)
        yield Question(question_id(text), text, json.dumps(check), split=split, kind=kind)


def _drawn() -> Iterator[tuple[str, str, dict[str, object]]]:
    """kind, prompt, check."""
    for at, topic in enumerate(_TOPICS.split(",")):
        write = f"Write one sentence about {topic}"
        yield "upper", f"{write}. Use only capital letters.", {"case": "upper", "words": [3, 60]}
        yield "lower", f"{write}. Use only lowercase letters.", {"case": "lower", "words": [3, 60]}
        most = 6 + at % 5
        yield "words", f"{write}. Use at most {most} words.", {"words": [2, most]}
        yield "words", f"{write}. Use no more than 25 words.", {"words": [3, 25]}
        least = 15 + at % 6
        yield "words", f"Describe {topic} in at least {least} words.", {"words": [least, 200]}
        for word in _FORBIDDEN[at % 2 :: 2]:
            yield "forbidden", f'{write} without the word "{word}".', {"none": [word], "words": [3, 60]}
        yield "wanted", f'{write}. Use the words "small" and "bright".', {"all": ["small", "bright"]}
        start = ("Once", "Today", "Perhaps", "Here")[at % 4]
        yield "begins", f'{write}. Begin with the word "{start}".', {"starts": start, "words": [3, 60]}
        yield "ends", f"{write}. End with a question mark.", {"ends": "?", "words": [3, 60]}
    for things in _LISTS.split(","):
        for count, written in _COUNTS.items():
            yield "list", f"List {written} {things}. Use a numbered list.", {"items": count}
            yield "list", f"Name {written} {things} as a bulleted list.", {"items": count}
    for first, second, what in _RECORDS:
        keys: dict[str, object] = {"keys": [first, second]}
        yield "json", f'Give a JSON object with the keys "{first}" and "{second}" for {what}.', keys
        yield "json", f'Write {what} as JSON with the keys "{first}" and "{second}". Write nothing else.', keys
        yield "json", f'Answer in JSON only. The keys are "{first}" and "{second}": {what}.', keys
        yield "json", f'Turn this into a JSON object with "{first}" and "{second}": {what}.', keys
