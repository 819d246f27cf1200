"""The verifiers that run in workers: hard cases, hostile functions, kills; and that gold is accepted by all."""

import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from cohobate.config import Verification
from cohobate.core.errors import VerifierError
from cohobate.evaluation.verifiers import symbolic, verify
from cohobate.evaluation.verifiers.verdict import Case, Verdict
from cohobate.evaluation.verifiers.verify import verdicts_of
from tests.support.processes import alive, children

pytestmark = pytest.mark.serves

SECONDS = 1.0
TIME_OUT = Verdict("undecided", "time-out")


def math(*pairs: tuple[str, str], workers: int = 2) -> list[Verdict]:
    spec = Verification(name="math", seconds=SECONDS, workers=workers)
    return verdicts_of(spec, [Case(answer, gold) for answer, gold in pairs])


def function(name: str, **values: Any) -> Verification:
    return Verification.model_validate({"name": f"tests.support.verifiers:{name}", "seconds": SECONDS, **values})


# What the issues and papers of other projects report, and the neighbours of it.
MATH = [
    ("1/2", "\\frac{1}{2}", "correct"),
    ("\\frac12", "0.5", "correct"),
    ("$\\frac{2}{4}$", "1/2", "correct"),
    ("\\sqrt{8}", "2\\sqrt{2}", "correct"),
    ("x^2+2x+1", "(x+1)^2", "correct"),
    ("x=5", "5", "correct"),
    ("1,000", "1000", "correct"),
    ("1e3", "1000", "correct"),
    ("1 1/2", "\\frac{3}{2}", "correct"),
    ("½", "0.5", "correct"),
    ("x²", "x^2", "correct"),
    ("\\$5", "5", "correct"),
    ("50\\%", "50", "correct"),
    ("2, 1", "\\{1, 2\\}", "correct"),
    ("(A)", "A", "correct"),
    ("\\text{Paris}", "Paris", "correct"),
    ("Paris", "London", "incorrect"),
    ("12", "1,2", "incorrect"),
    ("(1,2)", "[1,2]", "incorrect"),
    ("1/3", "\\frac{1}{2}", "incorrect"),
    ("2\\sqrt{3}", "2\\sqrt{2}", "incorrect"),
    ("listen", "silent", "undecided"),  # the same letters
    ("\\frac{", "5", "undecided"),
    ("5", "\\frac{", "undecided"),
    ("5", "proof", "undecided"),
    ("5", "notfound", "undecided"),
    ("5", "", "undecided"),
]
TOWERS = ["5^{5^{5^{5^5}}}", "9^{9^{9^9}}", "10^{10^{10}}", "100!!!"]
# In forms that only the library reads, which hangs.
HANGING = [f"\\sum_{{k=1}}^{{2}} {tower}" for tower in TOWERS]


def test_answers_in_another_form_are_equal_and_others_are_not() -> None:
    verdicts = math(*((answer, gold) for answer, gold, _ in MATH))
    assert [(a, g, v.label) for (a, g, _), v in zip(MATH, verdicts, strict=True)] == MATH


def test_a_tower_of_powers_costs_its_own_time_and_no_verdict_but_its_own() -> None:
    pairs = [pair for hanging in HANGING for pair in ((hanging, "5"), ("\\sqrt{9}", "3"), (hanging, hanging))]
    began = time.monotonic()
    verdicts = math(*pairs)
    # Four that hang, of which each worker gets about two, with a start of a worker after each; the bound is what
    # the wall clock may take on a machine that is busy with other things.
    assert time.monotonic() - began < len(TOWERS) * (4 * SECONDS + 10)
    assert verdicts == [TIME_OUT, Verdict("correct"), Verdict("correct")] * len(TOWERS)


@pytest.mark.parametrize("tower", TOWERS)
def test_a_tower_of_powers_that_is_read_here_takes_no_time(tower: str) -> None:
    began = time.monotonic()
    assert symbolic.compare_whole(tower, "5") == symbolic.NOT_COMPARED
    assert time.monotonic() - began < 1


def test_workers_serve_threads_too() -> None:
    found: list[Verdict] = []
    thread = threading.Thread(target=lambda: found.extend(math(("\\frac{2}{4}", "\\frac{1}{2}"), ("\\sqrt{4}", "x"))))
    thread.start()
    thread.join(60)
    assert [verdict.label for verdict in found] == ["correct", "incorrect"]


GOLD = st.one_of(
    st.text(max_size=30),
    st.integers().map(str),
    st.floats(allow_nan=False, allow_infinity=False).map(str),
    st.fractions().map(str),
    st.sampled_from([case[1] for case in MATH] + TOWERS),
)


@given(GOLD)
def test_a_verifier_accepts_its_own_gold(gold: str) -> None:
    for name in ("exact", "numeric", "math"):
        [verdict] = verdicts_of(Verification(name=name), [Case(gold, gold)])
        assert verdict in (Verdict("correct"), Verdict("undecided", "unusable gold answer"))


NUMBERS = st.integers(1, 99)
FORMS = (
    "{a}/{b}",
    "\\frac{{{a}}}{{{b}}}",
    "{a}\\sqrt{{{b}}}",
    "x^{a}+{b}",
    "({a}, {b})",
    "\\{{{a}, {b}\\}}",
    "{a}\\pi",
)


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(FORMS), NUMBERS, NUMBERS)
def test_mathematics_accepts_its_own_gold_by_algebra_too(form: str, a: int, b: int) -> None:
    text = form.format(a=a, b=b)
    # Not through the shortcut for equal texts.
    assert symbolic.compare(f"$ {text} $", text) == Verdict("correct")


@settings(max_examples=40, deadline=None)
@given(NUMBERS, NUMBERS, NUMBERS, NUMBERS)
def test_fractions_are_equal_by_cross_multiplication(a: int, b: int, c: int, d: int) -> None:
    equal = a * d == b * c
    verdict = symbolic.compare(f"\\frac{{{a}}}{{{b}}}", f"\\frac{{{c}}}{{{d}}}")
    assert verdict.label == ("correct" if equal else "incorrect")


@pytest.mark.parametrize("workers", [1, 2])
def test_what_hangs_or_crashes_is_undecided_and_the_rest_is_judged(workers: int) -> None:
    hostile = {
        "spin": TIME_OUT,
        "big": TIME_OUT,
        "sleep": TIME_OUT,
        "crash": Verdict("undecided", "the worker died (SIGSEGV)"),
        "exit": Verdict("undecided", "the worker died (exit status 3)"),
    }
    answers = ["7", *(part for name in hostile for part in (name, "7", "8"))]
    verdicts = verdicts_of(function("misbehaves", workers=workers, seconds=0.4), [Case(a, "7") for a in answers])
    others = {"7": Verdict("correct"), "8": Verdict("incorrect", "another answer")}
    assert verdicts == [{**hostile, **others}[answer] for answer in answers]


def test_workers_killed_in_the_middle_lose_no_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COHOBATE_TEST_MARKS", str(tmp_path))
    cases = [Case(str(n), str(n - n % 2)) for n in range(9)]
    verdicts = verdicts_of(function("dies_once", workers=2), cases)
    assert [verdict.label == "correct" for verdict in verdicts] == [n % 2 == 0 for n in range(9)]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0", "3", "6"]


def test_a_function_sees_the_sample_and_may_give_its_reason() -> None:
    cases = [
        Case("5", "5", question="q", response="therefore 5"),
        Case("5", "5", question="q", response="5"),
        Case(None, None, question="q", response="?"),
        Case(None, "5", truncated=True, question="q", response="So"),
    ]
    assert verdicts_of(function("explains"), cases) == [
        Verdict("correct"),
        Verdict("incorrect", "no argument"),
        Verdict("undecided", "no gold for q"),
        Verdict("undecided", "truncated"),
    ]


def test_what_a_function_prints_does_no_harm() -> None:
    assert verdicts_of(function("shouts"), [Case("a", "A"), Case("b", "A")]) == [
        Verdict("correct"),
        Verdict("incorrect", "another answer"),
    ]


def test_an_error_in_a_function_is_the_reason_of_its_sample() -> None:
    [verdict] = verdicts_of(function("fails"), [Case("5", "5")])
    assert verdict == Verdict("undecided", "the verifier failed: ZeroDivisionError: always")
    [verdict] = verdicts_of(function("says_yes"), [Case("5", "5")])
    assert verdict.label == "undecided" and "'yes', not True, False or None" in (verdict.reason or "")


def test_a_function_that_always_fails_stops_early() -> None:
    with pytest.raises(VerifierError, match=r"each of the first 20 samples .*ZeroDivisionError"):
        verdicts_of(function("fails"), [Case(str(n), "5") for n in range(30)])


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("tests.nowhere:check", ["no module 'tests.nowhere'", "module:function"]),
        ("tests.support.verifiers:nothing", ["tests.support.verifiers:nothing cannot be loaded", "AttributeError"]),
        ("tests.support.verifiers:missing", ["cannot be loaded", "no function"]),
    ],
)
def test_a_function_that_cannot_be_loaded_is_refused_before_anything_is_spent(name: str, parts: list[str]) -> None:
    with pytest.raises(VerifierError) as caught:
        verify.check(Verification(name=name))
    for part in parts:
        assert part in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["exakt", "checks:", ":right", "a b:c", "checks.py"])
def test_an_unknown_verifier_is_a_mistake_in_the_recipe(name: str) -> None:
    with pytest.raises(ValidationError, match=r"there is no verifier .*exact, numeric, math"):
        Verification(name=name)


def test_what_changes_the_verdicts_is_identity_and_the_rest_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def same(first: dict[str, Any], second: dict[str, Any]) -> bool:
        return verify.identity(Verification(**first)) == verify.identity(Verification(**second))

    assert same({"name": "math", "workers": 1}, {"name": "math", "workers": 2})
    assert same({"name": "exact", "seconds": 1, "tolerance": 0.1}, {"name": "exact"})
    assert not same({"name": "numeric", "tolerance": 0.1}, {"name": "numeric"})
    assert not same({"name": "math", "seconds": 1}, {"name": "math"})
    assert not same({"name": "exact", "majority": True}, {"name": "exact"})
    monkeypatch.chdir(tmp_path)
    marks = set()
    for body in ("return True", "return False"):
        Path("mine.py").write_text(f"def check(**case):\n    {body}\n")
        marks.add(verify.identity(Verification(name="mine:check"))["name"])
        [verdict] = verdicts_of(Verification(name="mine:check"), [Case("5", "5")])
        assert verdict.label == ("correct" if body == "return True" else "incorrect")
    assert len(marks) == 2


@pytest.mark.kill
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_worker_outlives_the_caller(number: signal.Signals) -> None:
    program = (
        "from cohobate.config import Verification\nfrom cohobate.evaluation.verifiers.verdict import Case\n"
        "from cohobate.evaluation.verifiers.verify import verdicts_of\n"
        "spec = Verification(name='tests.support.verifiers:slow', seconds=1, workers=2)\n"
        "verdicts_of(spec, [Case(str(n), '1') for n in range(999)])"
    )
    caller = subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.DEVNULL)
    workers = _wait_for(lambda: children(caller.pid), 2)
    time.sleep(0.5)
    caller.send_signal(number)
    caller.wait(30)
    assert _wait_for(lambda: [pid for pid in workers if alive(pid)], 0) == []


def _wait_for(look: Any, count: int) -> list[int]:
    for _ in range(300):
        if len(found := look()) == count:
            return list(found)
        time.sleep(0.1)
    raise AssertionError(f"{look()} are not {count}")


@pytest.mark.parametrize(
    ("answer", "gold"),
    [
        ("x = 10^{30000} + \\pi", "y = 10^{30000} - \\pi"),  # beyond the digits that are computed
        ("sq " * 130, "5"),
        (", ".join(["x^{y^z}"] * 20), ", ".join([*["x^{y^z}"] * 20, "1"])),
        ("(" * 300, ")" * 300),
        ("9^{9^{9^{9}}} = x", "9^{9^{9^{9}}} = y"),
        ("\\tan(\\tan(10^{5}))" * 5, "\\tan(\\tan(10^{5}))" * 6),
    ],
)
def test_answers_that_are_made_to_break_the_comparison_break_nothing(answer: str, gold: str) -> None:
    [verdict] = verdicts_of(Verification(name="math", seconds=1), [Case(answer, gold)])
    assert verdict.label != "correct"
