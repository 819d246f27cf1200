"""How languages announce an answer: the noun, the words around it, and the verb between it and the answer."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True)
class Language:
    """nouns: in lower case. before, after: patterns of further words of the label in front of the noun and behind it.

    verbs: between label and answer. closing: what a sentence still has behind its answer. apart: on which sides of the
    noun a letter makes it part of another word ("<", ">" or both).
    """

    nouns: tuple[str, ...]
    before: str = ""
    after: str = ""
    verbs: str = ""
    closing: str = ""
    apart: str = "<>"


_ADJECTIVES = (
    "final|correct|right|best|exact|short|numerical|numeric|simplified|corrected|revised|updated|overall|complete|"
    "ultimate|grounded|approximate|required|desired|closest"
)
ENGLISH = Language(
    ("answers", "answer", "ans", "result", "option", "choice"),
    before=rf"(?:(?:the|my|our|your|an?|that|this)\s+)?(?:(?:{_ADJECTIVES})[ _-]+){{0,3}}",
    verbs=r"is|are|was|would be|will be|equals|becomes|comes? out (?:to be|to|as)|comes? to|works out to be|"
    r"turns out to be|should be|must be|has to be|can only be|of",
)
# Nouns that announce an answer only with an adjective: "the final result", "the correct option".
NEED_ADJECTIVE = frozenset({"result", "option", "choice"})
# Verbs after which only a number, mathematics or a choice is an answer: "the answer must be positive".
WEAK_VERBS = frozenset({"should be", "must be", "has to be", "can only be", "of"})
LANGUAGES: tuple[Language, ...] = (
    ENGLISH,
    Language(
        (
            "最终的答案",
            "最终答案",
            "最後答案",
            "最终结果",
            "正确答案",
            "正確答案",
            "参考答案",
            "正确选项",
            "答案",
            "答",
        ),
        verbs="应该是|應該是|应为|應為|等于|等於|就是|选择|选项|选|選|是|为|為",
        apart="",
    ),
    Language(
        ("最終的な答え", "最終回答", "最終解答", "答え", "正解", "解答", "回答"),
        verbs="は|が",
        closing="です|である|だ|となります|になります|でした",
        apart="",
    ),
    Language(
        ("최종 답안", "최종 답변", "최종 답", "최종답", "정답", "답안", "답변", "답"),
        verbs="은|는|이|가",
        closing="입니다|이다|이에요|예요|이 됩니다|이 된다",
        apart="<",
    ),
    Language(
        ("endantwort", "antwort", "endergebnis"),
        before=r"(?:(?P<inverted>lautet|ist)\s+)?(?:die\s+)?(?:(?:richtige|korrekte|endgültige|finale)\s+)?",
        verbs="lautet|ist|wäre|beträgt",
    ),
    Language(
        ("réponse", "reponse"), before=r"(?:la\s+)?(?:bonne\s+)?", after="finale|correcte|exacte", verbs="est|serait"
    ),
    Language(("respuesta",), before=r"(?:la\s+)?", after="final|correcta", verbs="es|sería"),
    Language(("resposta", "gabarito"), before=r"(?:a\s+)?", after="final|correta|correcta", verbs="é|seria|és"),
    Language(("risposta",), before=r"(?:la\s+)?", after="finale|corretta|esatta", verbs="è|sarebbe"),
    Language(
        ("eindantwoord", "antwoord"),
        before=r"(?:(?P<inverted>luidt|is)\s+)?(?:het\s+)?(?:(?:juiste|correcte|uiteindelijke)\s+)?",
        verbs="is|luidt",
    ),
    Language(("cevap", "yanıt"), before=r"(?:(?:nihai|doğru|son)\s+)?", closing="['’][dt][iıuü]r"),
    Language(
        ("odpowiedź", "odpowiedz"),
        before=r"(?:(?:ostateczna|prawidłowa|poprawna|końcowa)\s+)?",
        verbs="to|jest|brzmi|wynosi",
    ),
    Language(("câu trả lời", "đáp án", "đáp số"), after="cuối cùng|đúng", verbs="là"),
    Language(("jawabannya", "jawaban"), after="akhirnya|akhir|yang benar", verbs="adalah"),
    Language(
        ("svaret", "svar"), before=r"(?:(?:slutligt|rätt|endelig|endeligt|korrekt)\s+)?", verbs="är|er|blir|bliver"
    ),
    Language(("vastaus",), before=r"(?:(?:lopullinen|oikea)\s+)?", verbs="on"),
    Language(("odpověď", "odpoveď"), before=r"(?:(?:konečná|správná)\s+)?", verbs="je|zní"),
    Language(("válasz",), before=r"(?:a\s+)?(?:(?:végső|helyes)\s+)?", verbs="az"),
    Language(("răspunsul", "răspuns"), after="final|corect", verbs="este"),
    Language(("ответ",), before=r"(?:(?:окончательный|правильный|верный|итоговый)\s+)?", verbs="это|равен|таков"),
    Language(("відповідь",), before=r"(?:(?:остаточна|правильна)\s+)?", verbs="це"),
    Language(("отговорът", "отговор"), before=r"(?:(?:верният|правилният)\s+)?", after="", verbs="е"),
    Language(("απάντηση",), before=r"(?:η\s+)?(?:(?:τελική|σωστή)\s+)?", verbs="είναι"),
    Language(("الإجابة", "الجواب"), after="النهائية|النهائي|الصحيحة|الصحيح", verbs="هي|هو"),
    Language(("התשובה", "תשובה"), after="הסופית|סופית|הנכונה|נכונה", verbs="היא|הוא"),
    Language(("پاسخ", "جواب"), after="نهایی|صحیح|درست", verbs="برابر", closing="است"),
    Language(("उत्तर", "जवाब"), before=r"(?:(?:अंतिम|सही)\s+)?", closing="है", apart="<"),
    Language(("উত্তর",), before=r"(?:(?:চূড়ান্ত|সঠিক)\s+)?", verbs="হল|হলো", apart="<"),
    Language(("பதில்", "விடை"), before=r"(?:(?:இறுதி|சரியான)\s+)?", apart="<"),
    Language(("sagot",), before=r"(?:ang\s+)?(?:(?:huling|tamang)\s+)?", verbs="ay"),
    Language(("jibu",), after="sahihi|la mwisho", verbs="ni"),
    Language(("jawapannya", "jawapan"), after="akhirnya|akhir|yang betul", verbs="ialah|adalah"),
    Language(("odgovor",), before=r"(?:(?:konačni|tačan|točan|končni|pravilni)\s+)?", verbs="je|glasi"),
    Language(("одговор",), before=r"(?:(?:коначни|тачан|точен)\s+)?", verbs="је|гласи|е"),
    Language(("atsakymas",), before=r"(?:(?:galutinis|teisingas)\s+)?", verbs="yra"),
    Language(("atbilde",), before=r"(?:(?:galīgā|pareizā)\s+)?", verbs="ir"),
    Language(("vastus",), before=r"(?:(?:lõplik|õige)\s+)?", verbs="on"),
    Language(("адказ",), before=r"(?:(?:канчатковы|правільны)\s+)?", verbs="гэта"),
    Language(("cavab", "javob", "жауап", "жауабы", "хариулт", "պատասխան", "պատասխանը", "პასუხი")),
    Language(("erantzuna", "ateb", "svarið", "përgjigja", "përgjigjja"), verbs="da|er|është"),
    Language(("సమాధానం", "ಉತ್ತರ", "ഉത്തരം", "જવાબ", "ਜਵਾਬ", "පිළිතුර", "အဖြေ"), apart="<"),
    Language(("ចម្លើយ", "ຄຳຕອບ", "คําตอบ", "መልስ"), verbs="គឺ|ແມ່ນ|คือ|ነው", apart=""),
    Language(("คำตอบสุดท้าย", "คำตอบที่ถูกต้อง", "คำตอบ"), verbs="คือ|เท่ากับ", apart=""),
)

_OF_SPELLING = {
    spelling: (noun, language)
    for language in LANGUAGES
    for noun in language.nouns
    for spelling in (noun, noun.capitalize(), noun.upper(), noun.title())
}


def _longest_of(words: Iterable[str]) -> str:
    """A pattern of the longest of `words` that stands at a place; words that begin alike are tried once."""
    rests: dict[str, list[str]] = {}
    for word in words:
        rests.setdefault(word[:1], []).append(word[1:])
    may_end = rests.pop("", None) is not None
    if not rests:
        return ""
    longer = "|".join(re.escape(first) + _longest_of(rest) for first, rest in rests.items())
    return longer if len(rests) == 1 and not may_end else f"(?:{longer})" + "?" * may_end


_NOUN = re.compile(_longest_of(_OF_SPELLING))


class Label(NamedTuple):
    """A noun that may announce an answer, in `language`, at text[start:end]."""

    noun: str
    language: Language
    start: int
    end: int


def labels(text: str, start: int = 0) -> Iterator[Label]:
    """The labels of all languages in `text` from `start` on, in order."""
    for match in _NOUN.finditer(text, start):
        noun, language = _OF_SPELLING[match[0]]
        before, after = text[max(0, match.start() - 1) : match.start()], text[match.end() : match.end() + 1]
        if not ("<" in language.apart and before.isalnum()) and not (">" in language.apart and after.isalnum()):
            yield Label(noun, language, match.start(), match.end())
