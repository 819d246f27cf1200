"""What stands beside a gold answer and makes another of it: -5, 5 million, near Paris, red and blue."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from cohobate.evaluation.verifiers.phrases import normal_form, places, words

_NEAR = 120  # characters on either side that are looked at
_MARKS = " \t\n\"'“”‘’*_`($«"
_ARTICLE = re.compile(r"\b(?:the|a|an|this|that|der|die|das|le|la|el|il)$")
# Part of a longer word or of a fraction: anti-oxygen, Paris-based, 5/6.
_JOINED_BEFORE, _JOINED_AFTER = re.compile(r"\w[-‐‑/]$"), re.compile(r"[-‐‑/]\w")
# Words before an answer that make it something to compare with.
_RELATION = re.compile(
    r"\b(unlike|like|near|nearby|beyond|outside|than|opposite|excluding|besides?|behind|towards?|against|versus|vs\.?|"
    r"resembles?|before|after|until|till|since|with|nahe|bei|vor|nach|avant|après|antes de|después de|"
    r"(?<!made )(?<!derived )(?<!obtained )from|(?:(?:far|away|different|apart|aside) from)|"
    r"(?:close|next|similar|opposed|opposite|prior|due|contrary|compared|related|relative) to|(?:près|loin|proche) de|"
    r"(?:anything|nothing|everything|all|everyone|anyone) but|(?:cerca|lejos) de)$"
)
# `of` is the answer's own only behind words such as these, or behind one of the question.
_OF = re.compile(r"(\w+) of$")
_WHOLE = frozenset(
    words(
        "city town state country republic kingdom province region island river name word term letter symbol title year "
        "month day date number total sum value amount count price cost age colour color shade element capital answer "
        "made consists consist composed built full planet language gas metal university"
    )
)
_CONVERSE = frozenset(words("opposite reverse contrary inverse antonym"))
_LARGE = r"(?:hundred|thousand|million|billion|trillion|dozen|lakh|crore)s?"
_NUMBER_BEFORE = re.compile(
    r"(?:[+±~≈<>≤≥≠^]|(?<![–—])[-−]|(?<!\s)–)\s?$|"
    r"\b(minus|negative|plus|least|most|more|less|about|around|approximately|approx\.?|roughly|nearly|almost|over|under|"
    r"above|below|some|circa|ca\.?|c\.|half|twice|times|every|per|between|within|by|exceed(?:s|ed|ing)?|early|late|mid|"
    r"(?:over|up|close) to|" + _LARGE + r"(?:,? and)?)$"
)
_UP_TO_A_SUM = re.compile(r"\b(?:adds?|comes?|sums?|works?) up to$")
_NUMBER_AFTER = re.compile(
    r"\s*[+^!]|\s*(%|(?:"
    + _LARGE
    + r"|percent|per cent|point|half|halves|thirds?|quarters?|fourths?|fifths?|tenths?|hundredths?|"
    r"plus|minus|times|squared|cubed|more|fewer|less|bce?|b\.c|(?:and )?a half|"
    r"(?:\w+ )?(?:below|above|or (?:more|less)))"
    r"(?!\w))"
)
_AND = r"and(?: also)?|or|plus|as well as|along with|together with|in addition to|und|oder|et|y"
_LIST_BEFORE = re.compile(
    rf"([^\W\d_][\w'-]*)(?:\s*(?:&|\+)|,?\s+(?:{_AND}))\s+(?:\w+ ){{0,2}}$|([^\W\d_][\w'-]*),\s*$"
)
_LIST_AFTER = re.compile(rf"(?:\s*[,&+]|,?\s+(?:{_AND}))\s*(?:(?:a|an|the|also)\s+)?([^\W\d_][\w'-]*)")
# Words that are no answers, and may stand before `, red` or behind `red, `.
_NO_CANDIDATES = frozenset(
    words(
        "a an the it its it's this that these those which who whose whom where when while as so then thus hence indeed "
        "is are was were be been has have had do does did can will in on at of for by from to with because since he "
        "she they there we you i also usually typically often known called yes no well sure okay ok certainly actually "
        "therefore however generally of course summary short fact conclusion answer"
    )
)


def is_qualified(statement: str, gold: str, question: str) -> bool:
    """Whether a sign, a unit of counting or a relation beside `gold` makes another answer of it.

    A relation that the question names (`before which year`) is the answer's own.
    """
    question_words, expected = {*words(question)}, words(gold)
    return any(
        _is_related(before, after, question_words) or _is_other_number(before, after, question_words, expected)
        for before, after in _surroundings(statement, gold)
    )


def is_listed(statement: str, gold: str, question: str) -> bool:
    """Whether a comma or an `and` joins `gold` to another word that could be an answer: one not in the question."""
    no_candidates = {*words(question), *words(gold), *_NO_CANDIDATES}

    def another(match: re.Match[str] | None) -> bool:
        return match is not None and not {*words(match[match.lastindex or 0])} <= no_candidates

    return any(
        another(_LIST_BEFORE.search(before + " ")) or another(_LIST_AFTER.match(after))
        for before, after in _surroundings(statement, gold)
    )


def _surroundings(statement: str, gold: str) -> Iterator[tuple[str, str]]:
    """Normalised text before and behind each place of the gold answer."""
    text = re.sub(r"^\s*[-*•–]\s+", "", normal_form(statement))
    for start, end in places(text, words(gold)):
        yield text[max(0, start - _NEAR) : start], text[end : end + _NEAR]


def _is_related(before: str, after: str, question_words: set[str]) -> bool:
    if _JOINED_BEFORE.search(before) or _JOINED_AFTER.match(after):
        return True
    spoken = _spoken(before)
    if (relation := _RELATION.search(spoken)) and not question_words >= {*words(relation[1])}:
        return True
    of = _OF.search(spoken)
    return of is not None and (of[1] in _CONVERSE or not (of[1] in _WHOLE or of[1] in question_words))


def _is_other_number(before: str, after: str, question_words: set[str], expected: Sequence[str]) -> bool:
    spoken = before.rstrip("\"'“”‘’*_`($«")
    if expected[0][0].isdigit() and (
        sign := _NUMBER_BEFORE.search(spoken.rstrip() if spoken.endswith(" ") else spoken)
    ):
        named = sign[1] is not None and question_words >= {*words(sign[1])}
        if not named and not _UP_TO_A_SUM.search(spoken.rstrip()):
            return True
    unit = _NUMBER_AFTER.match(after.lstrip("*_`")) if expected[-1][0].isdigit() else None
    return unit is not None and not (unit[1] is not None and question_words >= {*words(unit[1])})


def _spoken(before: str) -> str:
    """The text before without marks and an article at its end."""
    return _ARTICLE.sub("", before.rstrip(_MARKS)).rstrip(_MARKS)
