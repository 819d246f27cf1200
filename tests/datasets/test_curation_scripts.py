"""Words of every script, and contamination in scripts that write no spaces."""

import random

import pytest

from cohobate.datasets.curation.decontaminate import contaminated
from cohobate.datasets.curation.dedup import exact, near
from cohobate.datasets.curation.ngrams import count_words, words

HAN = "".join(map(chr, range(0x4E00, 0x5E00)))
KANA = "".join(map(chr, range(0x3041, 0x3094)))
THAI = "".join(map(chr, range(0x0E01, 0x0E2F)))


@pytest.mark.parametrize(
    "text",
    [
        "हिन्दी में कितने सेब हैं",
        "தமிழ் மொழி எது",
        "كَتَبَ الوَلَدُ",
        "कि\u0301ं e\u0301te\u0301 o\u0327\u0301x",
        "한국어 단어는 띄어 쓴다",
    ],
)
def test_marks_belong_to_their_letters(text: str) -> None:
    assert len(words(text)) == len(text.split()) == count_words([text])[0]


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("光合作用过程", 3),
        ("ひらがな カタカナ", 3),
        ("漢字かな", 2),
        ("3个苹果 kosten (5)", 5),
        ("ภาษาไทยง่าย", 3),
        ("๑๒ ๓", 2),
        ("", 0),
        ("。！？（　）", 0),
    ],
)
def test_scripts_without_spaces_count_by_characters(text: str, count: int) -> None:
    assert count_words([text, "a b"]) == [count, 2]


@pytest.mark.parametrize(("alphabet", "needed"), [(HAN, 26), (KANA, 39), (THAI, 52)])
def test_a_run_is_contamination_from_as_many_characters_as_13_words_have(alphabet: str, needed: int) -> None:
    draw = random.Random(needed)

    def fresh(count: int) -> str:
        return "".join(draw.choices(alphabet, k=count))

    run = fresh(needed)
    questions = [fresh(40) + run + fresh(9), fresh(9) + run[1:] + fresh(40), run, fresh(60)]
    assert contaminated(questions, [fresh(30) + run + fresh(30)], 13) == {0: 0, 2: 0}


def test_a_run_may_change_its_script() -> None:
    draw = random.Random(3)
    run = "小明在 school 里有 12 个苹果 and then he eats 3 个梨子和 four 香蕉，还剩 how many？"
    filler = ["".join(draw.choices(HAN, k=30)) for _ in range(3)]
    assert count_words([run])[0] >= 13
    assert contaminated([filler[0] + run], [f"{filler[1]}，{run}，{filler[2]}"], 13) == {0: 0}


@pytest.mark.parametrize(
    ("phrase", "subjects"),
    [
        (
            "根据以上材料，下列说法中错误的是哪一个？请选择正确答案。",
            ["古代丝绸之路的贸易往来。", "海水淡化技术的主要原理。"],
        ),
        ("次の文の（　）に入る最も適当な語句を一つ選びなさい。", ["東京の人口", "植物の成長"]),
        ("다음 글을 읽고 물음에 알맞은 답을 하나만 고르시오.", ["고려 시대의 무역", "식물의 광합성"]),
    ],
)
def test_the_phrase_of_an_exam_is_no_contamination(phrase: str, subjects: list[str]) -> None:
    one, other = (subject + phrase for subject in subjects)
    assert contaminated([one], [other], 13) == {}
    assert contaminated([one], [one], 13) == {0: 0}


def test_forms_of_one_question_are_contamination_and_duplicates() -> None:
    plain = "Ada has 12 boxes of x keys where 2x + 3 = 7, and she gives a third of them away: how many are left to her?"
    forms = [
        plain.replace("a third", "**a third**").replace("2x + 3 = 7", "$2x + 3 = 7$"),
        plain.replace(" ", " \u200b").replace("boxes", "bo\u00adxes").upper(),
        plain.replace("12", "１２").replace("keys", "_keys_").replace("2x + 3 = 7", "\\(2x + 3 = 7\\)"),
    ]
    assert contaminated(forms, [plain], 13) == dict.fromkeys(range(3), 0)
    assert exact([plain, *forms]) == dict.fromkeys(range(1, 4), 0)
    assert near([plain, *forms], 1.0) == dict.fromkeys(range(1, 4), 0)
