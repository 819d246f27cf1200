"""Short facts, answered in a sentence: the gold answer as whole words in the final statement."""

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cohobate.config import Verification
from cohobate.core.answer_parsing import parse
from cohobate.evaluation.verifiers.phrases import last_sentence, words
from cohobate.evaluation.verifiers.verdict import NO_FINAL_ANSWER, Case, Verdict
from cohobate.evaluation.verifiers.verify import verdicts_of
from tests.support.tables import read_table

FACTS = [row for row in read_table("endings") if "phrase" in row]


def verdict(text: str, gold: str | None, question: str = "", *, truncated: bool = False) -> Verdict:
    [result] = verdicts_of(Verification(name="phrase"), [Case(parse(text).answer, gold, truncated, question, text)])
    return result


@pytest.mark.parametrize("row", FACTS, ids=lambda row: row["id"])
def test_a_fact_of_the_table_is_judged_as_its_label_says(row: dict[str, Any]) -> None:
    assert verdict(row["text"], row["gold"], row["question"]).label == row["phrase"]


@pytest.mark.parametrize(
    ("text", "gold", "question", "expected"),
    [
        ("Mount Everest is the highest mountain.", "Mount Everest", "Which mountain is the highest?", "correct"),
        ("The highest mountain is Everest.", "Mount Everest", "Which mountain is the highest?", "undecided"),
        ("I would say either Everest or K2.", "Everest", "Which mountain is the highest?", "undecided"),
        ("The answer is not Everest but K2.", "Everest", "Which mountain is the highest?", "undecided"),
        ("It has 8 legs.", "8", "How many legs has a spider?", "correct"),
        ("It has 8 legs and 6 eyes.", "8", "How many legs has a spider?", "undecided"),
        ("A spider has eight legs.", "8", "How many legs has a spider?", "correct"),
        ("A spider has eighteen legs.", "8", "How many legs has a spider?", "incorrect"),
        ("No, a whale is a mammal.", "no", "Is a whale a fish?", "correct"),
        ("Yes, a whale is a fish.", "no", "Is a whale a fish?", "incorrect"),
        ("**Au**", "Au", "What is the symbol of gold?", "correct"),
        ("Its symbol is Aurum.", "Au", "What is the symbol of gold?", "incorrect"),
        ("東京は日本の首都です。", "東京", "日本の首都はどこですか？", "correct"),
        ("The author is J. R. R. Tolkien. He was born in Bloemfontein.", "J. R. R. Tolkien", "Who is it?", "correct"),
        ("Is it Paris?", "Paris", "What is the capital?", "undecided"),
        ("I am not sure.", "Paris", "What is the capital?", "undecided"),
        ("", "Paris", "What is the capital?", "undecided"),
    ],
)
def test_sentences(text: str, gold: str, question: str, expected: str) -> None:
    assert verdict(text, gold, question).label == expected


def test_a_response_without_a_statement_or_a_gold_answer_is_undecided_with_its_reason() -> None:
    assert verdict("<think>Paris</think>", "Paris") == NO_FINAL_ANSWER
    assert verdict("The capital is", "Paris", truncated=True) == Verdict("undecided", "truncated")
    assert verdict("Paris", None) == Verdict("undecided", "no gold answer")
    assert verdict("Paris", "unknown") == Verdict("undecided", "unusable gold answer")


@given(st.text(min_size=1), st.text(max_size=40))
def test_any_text_gets_a_verdict_and_a_gold_answer_is_never_wrong(gold: str, text: str) -> None:
    assert verdict(gold, gold).label != "incorrect"
    assert verdict(text, gold).label in ("correct", "incorrect", "undecided")
    assert last_sentence(text) in text or "\n" in text
    assert all(word == word.casefold() for word in words(text))


@pytest.mark.parametrize(
    ("text", "gold", "not_to_be"),
    [
        *[
            (text, "Paris", "correct")
            for text in ("Paris Hilton it is.", "It used to be Paris.", "Paris is incorrect.")
        ],
        *[(text, "Paris", "correct") for text in ("Paris would be false.", "Perhaps Paris.", "It could be Paris.")],
        *[(text, "東京", "correct") for text in ("首都は東京ではありません。", "首都は東京じゃない。")],
        ("It is in New York.", "York", "correct"),
        ("It is not known.", "Paris", "incorrect"),
        ("It is in the U.S.", "United States", "incorrect"),
        ("The United States.", "U.S.", "incorrect"),
        ("There are twenty-one.", "21", "incorrect"),
        ("There are two thousand.", "2000", "incorrect"),
        ("It is a co-op.", "coop", "incorrect"),
    ],
)
def test_doubts_longer_names_and_other_words_are_not_decided(text: str, gold: str, not_to_be: str) -> None:
    assert verdict(text, gold).label != not_to_be


@pytest.mark.parametrize(
    ("gold", "text"),
    [
        ("5", "It is -5."),
        ("5", "It is −5."),
        ("5", "Minus 5 degrees."),
        ("5", "At least five."),
        ("5", "More than 5 people came."),
        ("5", "It has 5 million people."),
        ("5", "There are five hundred."),
        ("5", "It is 5% of them."),
        ("5", "Some 5+ people."),
        ("5", "It is 5 degrees below zero."),
        ("500", "It was in 500 BC."),
        ("8", "about half of 8"),
        ("1950", "He was born before 1950."),
        ("1950", "He was born in the mid-1950 season."),
        ("red", "The sky is blue, unlike red."),
        ("red", "Anything but red."),
        ("red", "The colour is blue and red."),
        ("red", "It is red & green."),
        ("oxygen", "It consists of hydrogen and oxygen."),
        ("oxygen", "Oxygen and hydrogen."),
        ("Oxygen", "Oxygen and hydrogen."),
        ("oxygen", "anti-oxygen"),
        ("Paris", "It is far from Paris."),
        ("Paris", "It lies near Paris."),
        ("Paris", "It lies near the Paris of old."),
        ("Paris", "Unlike Paris, it is small."),
        ("Paris", "It is a Paris-like town."),
        ("Paris", "It was founded before Paris."),
        ("Einstein", "The son of Einstein wrote it."),
        ("gold", "Several people doubt that it is gold."),
        ("gold", "Many believe it is gold."),
        ("hot", "It is the opposite of hot."),
    ],
)
def test_what_stands_beside_the_gold_answer_can_make_another_of_it(gold: str, text: str) -> None:
    assert verdict(text, gold, "What is it?").label == "undecided"


@pytest.mark.parametrize(
    ("gold", "text", "question"),
    [
        ("Paris", "The capital of France is Paris.", "What is the capital of France?"),
        ("Warsaw", "Poland's capital is Warsaw.", "What is the capital of Poland?"),
        ("Warsaw", "The capital of Poland is Warsaw.", "What is Poland's capital?"),
        ("Paris", "He was born in the city of Paris.", "Where was he born?"),
        ("France", "Paris is the capital of France.", "Paris is the capital of which country?"),
        ("Einstein", "It was written by Einstein.", "Who wrote it?"),
        ("5", "They add up to 5.", "What do they add up to?"),
        ("8", "A spider has a total of **8** legs.", "How many legs has a spider?"),
        ("5", "It has 5 million people.", "How many million people has it?"),
        ("1950", "He was born before 1950.", "Before which year was he born?"),
        ("1950", "He was born in 1950, in winter.", "When was he born?"),
        ("red", "The colour is red.", "Which colour is it?"),
        ("red", "Yes, red, which means stop.", "Which colour is it?"),
        ("gold", "It is made of gold.", "What is it made of?"),
        ("hot", "The opposite of cold is hot.", "What is the opposite of cold?"),
    ],
)
def test_plain_sentences_and_words_of_the_question_stay_correct(gold: str, text: str, question: str) -> None:
    assert verdict(text, gold, question).label == "correct"


def test_a_long_statement_is_judged_at_once() -> None:
    started = time.monotonic()
    assert verdict("a" * 100_000 + " paris" * 10_000, "paris").label in ("correct", "undecided")
    assert time.monotonic() - started < 5
