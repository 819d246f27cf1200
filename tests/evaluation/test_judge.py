"""A language model as verifier: its replies as verdicts, and the requests to it."""

from pathlib import Path
from typing import Any

import pytest

from cohobate.evaluation.verifiers.judge import read_verdict
from cohobate.evaluation.verifiers.kinds import verifier
from cohobate.evaluation.verifiers.verdict import Case
from cohobate.evaluation.verifiers.verify import verdicts_of
from tests.support.judge_requests import prompt, spec
from tests.support.wire_server import Act, WireServer, completion, error


@pytest.mark.parametrize(
    ("text", "label"),
    [
        *[(text, "correct") for text in ("+1", " +1\n", "1", "**+1**", "Verdict: +1", "Sound.\n\n+1.", "$+1$")],
        *[(text, "incorrect") for text in ("-1", "\u22121", "-1.", "`-1`", "Score = -1", "<think>+1</think>\n-1")],
        *[(text, "undecided") for text in ("", "correct", "I cannot judge that.", "0", "10", "+1 or -1", "+1\nHm.")],
    ],
)
def test_only_a_last_line_of_plus_or_minus_one_is_a_verdict(text: str, label: str) -> None:
    verdict = read_verdict(text)
    assert verdict.label == label and (verdict.reason or "").endswith(" ".join(text.split()))


@pytest.mark.parametrize(
    ("text", "label"),
    [
        *[
            (text, "correct")
            for text in ("Answer: +1", '"+1"', "[+1]", "+1.", "(+1)", "**Verdict:** +1", "\\boxed{+1}")
        ],
        *[
            (text, "correct")
            for text in ("My final verdict is +1.", "Label: “+1”", "Fine.\nFinal answer: **+1**", "＋1")
        ],
        *[
            (text, "incorrect")
            for text in ("Answer: -1", "'-1'", "[\u22121]", "Rating: `-1`.", "The verdict is **-1**!")
        ],
        # A bare 1 behind this label may be the answer that was judged.
        *[
            (text, "undecided")
            for text in ("Answer: 1", "Final answer: 1.", "The answer is 1", "Answer: +10", "[+1, -1]")
        ],
        *[(text, "undecided") for text in ("+1?", "not +1", "x = +1", "+1 or 1", "+1.5", "+1%")],
    ],
)
def test_marks_and_labels_around_the_number_change_nothing(text: str, label: str) -> None:
    assert read_verdict(text).label == label


@pytest.mark.parametrize(
    ("finish_reason", "kind"),
    [
        ("length", "reply cut at the token limit"),
        ("MAX_TOKENS", "reply cut at the token limit"),
        ("content_filter", "reply cut (content_filter)"),
        ("Refusal", "reply cut (refusal)"),
    ],
)
def test_a_reply_that_was_cut_decides_nothing_and_says_by_what(finish_reason: str, kind: str) -> None:
    verdict = read_verdict("Let us see: +1", finish_reason)
    assert verdict.label == "undecided" and verdict.reason == f"{kind}: Let us see: +1"
    assert read_verdict("+1", "end_turn").label == "correct"


# What the judge does with the n-th answer, and the verdict and the beginning of its reason.
REPLIES: list[tuple[Any, str, str]] = [
    (lambda body: Act(payload=completion(body, "+1")), "correct", "+1"),
    (lambda body: Act(payload=completion(body, "-1")), "incorrect", "-1"),
    (lambda body: Act(payload=completion(body, "It looks right to me")), "undecided", "unclear reply: It looks right"),
    (lambda body: Act(payload=completion(body, "", refusal="no")), "undecided", "Refused: no"),
    (lambda body: Act(payload=completion(body, "")), "undecided", "EmptyContent: "),
    (lambda body: Act(hang=True), "undecided", "Timeout: no answer within 0.3 s"),
    (lambda body: error(400, "too long"), "undecided", "BadRequestError: too long"),
    (lambda body: Act(payload=completion(body, "Hm", finish_reason="length")), "undecided", "reply cut at the token"),
    (lambda body: Act(payload=completion(body, "", reasoning="+1", finish_reason="stop")), "undecided", "OnlyReas"),
]


def test_every_reply_ends_as_a_verdict_with_what_was_said(server: WireServer, data: Path) -> None:
    server.plan = lambda body, time: REPLIES[int(prompt(body).split("Question ")[1].split("?")[0])][0](body)
    cases = [Case("4", "5", question=f"Question {n}?", response="So.\nAnswer: 4") for n in range(len(REPLIES))]
    found = verdicts_of(spec(server, timeout=0.3, attempts=1, max_failures=1.0), cases)
    for verdict, (_, label, said) in zip(found, REPLIES, strict=True):
        assert verdict.label == label and (verdict.reason or "").startswith(said)
    assert len(server.seen) == len(REPLIES)


def test_what_is_asked_is_the_prompt_with_its_fields_at_temperature_0(server: WireServer, data: Path) -> None:
    server.plan = lambda body, time: Act(payload=completion(body, "+1"))
    template = "{question}|{gold}|{rationale}|{answer}|{document}|{other}"
    chosen = spec(server, prompt=template, system="Be strict.", max_tokens=9, extra={"min_p": 0.1})
    cases = [
        Case("4", "5", question="2 + 2 {gold}?", response="Two and two.\nAnswer: 4", document="a page"),
        Case(None, "proof", question="Why?", response="Because."),
        Case("4", None, question="2 + 2?", response="\\boxed{4}", truncated=True),
        Case(None, "5", question="cut?", response="So", truncated=True),
    ]
    found = verdicts_of(chosen, [*cases, cases[0]])
    assert [verdict.label for verdict in found] == ["correct"] * 3 + ["undecided", "correct"]
    assert sorted(prompt(seen.body) for seen in server.seen) == [
        "2 + 2 {gold}?|5|Two and two.|4|a page|{other}",
        "2 + 2?|not known|none|4|none|{other}",
        "Why?|not known|Because.|none|none|{other}",
    ]
    body = server.seen[0].body
    assert body["messages"][0] == {"role": "system", "content": "Be strict."}
    assert (body["model"], body["temperature"], body["max_tokens"], body["min_p"]) == ("j", 0.0, 9, 0.1)


def test_another_model_or_prompt_is_another_judge_and_another_place_is_not(server: WireServer) -> None:
    name = verifier(spec(server)).name
    assert name.startswith("judge:j@")
    assert verifier(spec(server, base_url="http://elsewhere/v1", concurrency=3)).name == name
    for change in ({"model": "k"}, {"prompt": "{question} {answer}"}, {"revision": "2"}, {"max_tokens": 5}):
        assert verifier(spec(server, **change)).name != name


def test_a_response_without_a_final_answer_is_not_judged_wrong(server: WireServer, data: Path) -> None:
    server.plan = lambda body, time: Act(payload=completion(body, "-1"))
    cases = [
        Case(None, "5", question="a?", response="Five, maybe."),
        Case("4", "5", question="a?", response="Answer: 4"),
    ]
    only_answers = verdicts_of(spec(server, prompt="{question}|{answer}"), cases)
    assert [(verdict.label, verdict.reason) for verdict in only_answers] == [
        ("undecided", "no final answer"),
        ("incorrect", "-1"),
    ]
    whole = verdicts_of(spec(server, prompt="{question}|{response}"), cases)
    assert [verdict.label for verdict in whole] == ["incorrect"] * 2
