"""The nouns that announce an answer, against a search for each of them at each place."""

from hypothesis import given
from hypothesis import strategies as st

from cohobate.core.answer_labels import LANGUAGES, labels

SPELLINGS = sorted(
    {
        form: None
        for language in LANGUAGES
        for noun in language.nouns
        for form in (noun, noun.capitalize(), noun.upper(), noun.title())
    }
)
PIECES = st.one_of(
    st.sampled_from(SPELLINGS),
    st.sampled_from(SPELLINGS).flatmap(lambda word: st.integers(1, len(word)).map(lambda end: word[:end])),
    st.sampled_from([" ", "\n", "a", "A", ":", "é"]),
)


def longest_places(text: str) -> list[tuple[int, int]]:
    found, at = [], 0
    while at < len(text):
        fitting = [word for word in SPELLINGS if text.startswith(word, at)]
        end = at + max(map(len, fitting), default=0)
        if fitting:
            found.append((at, end))
        at = max(end, at + 1)
    return found


@given(st.lists(PIECES, max_size=8).map("".join))
def test_a_label_is_the_longest_noun_at_its_place(text: str) -> None:
    places, found = longest_places(text), [(label.start, label.end) for label in labels(text)]
    alone = [(a, b) for a, b in places if not f"{text[a - 1 : a]}{text[b : b + 1]}".strip()]
    assert {*alone} <= {*found} <= {*places} and found == sorted(found)
