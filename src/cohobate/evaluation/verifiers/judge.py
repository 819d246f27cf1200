"""The verifier `judge`: a language model decides whether an answer is right.

Its replies are stored like a teacher's, under the hash of the request, so that the same model and prompt never judge
the same answer twice. A reply whose last line is +1 or -1, maybe in marks or behind a label, is a verdict. Anything
else - words, a refusal, a time-out - leaves the answer undecided, and is the reason.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from cohobate.config import Judge, Verification
from cohobate.core.answer_parsing import after_thinking, parse
from cohobate.core.answer_text import plain_characters, usable
from cohobate.core.errors import TeacherError
from cohobate.core.fingerprint import hash_value
from cohobate.evaluation.verifiers.verdict import JUDGE_PREFIX, NO_FINAL_ANSWER, TRUNCATED, Case, Label, Verdict
from cohobate.models.model_cost import cost_of_folder
from cohobate.models.rendering import folded
from cohobate.store.compute_ledger import UNKNOWN, LedgerEntry, Paid, Work, entry
from cohobate.teachers.base import (
    AT_THE_LIMIT,
    NATURAL_ENDS,
    Batch,
    Failure,
    Request,
    request_rendering,
    teacher_fingerprint,
)
from cohobate.teachers.response_store import ResponseStore

if TYPE_CHECKING:
    import polars as pl

# Fields of the prompt, replaced in one pass: braces in an answer are never taken for a field.
_FIELD = re.compile(r"\{(question|gold|rationale|answer|response|document)\}")
# Around and behind the number, on the last line.
_MARKS = r"[\s*_`$\"'“”‘’«»(){}\[\]<>]{0,12}"
_LAST_LINE = re.compile(
    rf"{_MARKS}(?:(?:(?:the|my|final)\s+){{0,2}}(?:(?:verdict|reply|score|judge?ment|label|rating|grade){_MARKS}(?:[:=]|\bis\b)?"
    rf"|(?:answer|response){_MARKS}(?:[:=]|\bis\b){_MARKS}(?=[-+−–])))?"
    rf"{_MARKS}(?:\\boxed{_MARKS})?(?P<sign>[-+−–]?)\s?1{_MARKS}[.!。]?{_MARKS}",
    re.IGNORECASE,
)
_LONGEST_REASON = 300
_CUT = "reply cut at the token limit"
# A refusal of the provider is a reply, not a failure of the judge.
_REFUSED = "Refused"


def identity(judge: Judge) -> dict[str, Any]:
    """The inputs of a judge's verdicts: the model, its prompt, and its sampling settings."""
    return {**judge.identity(), "model": teacher_fingerprint(judge)}


def verifier(spec: Verification) -> JudgeVerifier:
    """The judge that the recipe names."""
    assert spec.judge is not None, "the recipe's section refuses the verifier judge without a model"
    return JudgeVerifier(spec.judge)


@dataclass(frozen=True)
class JudgeVerifier:
    """The replies of a language model as verdicts."""

    judge: Judge
    version: int = 2

    @cached_property
    def settings(self) -> Mapping[str, Any]:
        """Model, prompt and sampling. Raises ModelError without the model."""
        return {"judge": identity(self.judge)}

    @property
    def name(self) -> str:
        """judge:MODEL@8 hex: another model or prompt is another judge."""
        return f"{JUDGE_PREFIX}{PurePath(self.judge.model).name}@{hash_value(self.settings['judge'])[:8]}"

    def check(self) -> None:
        """Refuse before spending. Raises EndpointError without the key, ModelError without the model."""
        if self.judge.is_endpoint:
            from cohobate.teachers.kinds import open_backend

            open_backend(self.judge, self.judge)
        else:
            teacher_fingerprint(self.judge)

    def verdicts(self, cases: Sequence[Case], done: Callable[[int], None], paid_by: str) -> list[Verdict]:
        """A verdict for each case, in order; equal cases are judged once, and those of earlier runs not at all.

        Raises EndpointError or TeacherError when the judge fails systematically; its replies so far stay stored.
        """
        requests = _requests(self.judge, cases)
        by_key = {request.key: request for request in requests if request is not None}
        repeats = Counter(request.key for request in requests if request is not None)
        store = ResponseStore()
        replies = _replies(store, by_key, self.judge)
        done(len(cases) - sum(repeats[key] for key in by_key if key not in replies))
        failures: dict[str, Failure] = {}
        if len(replies) < len(by_key):
            missing = [request for key, request in by_key.items() if key not in replies]
            failures = _ask(self.judge, missing, store, paid_by, lambda key: done(repeats[key]))
            _refuse_failures(self.judge, failures, len(by_key))
            replies = _replies(store, by_key, self.judge)
        verdicts = [_verdict(request, replies, failures) for request in requests]
        sees_response = "{response}" in self.judge.prompt
        return [
            NO_FINAL_ANSWER if verdict.label == "incorrect" and case.answer is None and not sees_response else verdict
            for case, verdict in zip(cases, verdicts, strict=True)
        ]


@dataclass(frozen=True)
class JudgeUsage:
    """The replies that a judge gave, and their cost in USD; None where the judge has no price."""

    model: str
    replies: int
    prompt_tokens: int
    completion_tokens: int
    cost_usd: float | None


def usage(
    judge: Judge, cases: Sequence[Case], stage: str, payer: str, work: Work = "judging"
) -> tuple[list[LedgerEntry], JudgeUsage]:
    """The ledger entries and the usage of judging `cases`; `payer` paid here, others paid earlier."""
    keys = dict.fromkeys(request.key for request in _requests(judge, cases) if request is not None)
    replies = ResponseStore().find(list(keys), judge.max_tokens)
    here = replies["paid_by"] == payer
    payers: tuple[tuple[Paid, pl.DataFrame], ...] = (("here", replies.filter(here)), ("earlier", replies.filter(~here)))
    entries = [_entry(judge, rows, stage, work, paid) for paid, rows in payers if len(rows)]
    tokens = int(replies["prompt_tokens"].sum()), int(replies["completion_tokens"].sum())
    model = judge.model if judge.is_endpoint else PurePath(judge.model).name
    return entries, JudgeUsage(model, len(replies), *tokens, judge.cost_usd(*tokens))


def read_verdict(text: str, finish_reason: str = "stop") -> Verdict:
    """The verdict of a reply, with the reply as its reason."""
    reply = " ".join(text.split())[:_LONGEST_REASON]
    end = finish_reason.lower()
    if end not in NATURAL_ENDS:
        return Verdict("undecided", f"{_CUT if end in AT_THE_LIMIT else f'reply cut ({end})'}: {reply}")
    lines = plain_characters(after_thinking(text)).strip().split("\n")
    match = _LAST_LINE.fullmatch(lines[-1])
    if not match:
        return Verdict("undecided", f"unclear reply: {reply}")
    label: Label = "correct" if match["sign"] in ("", "+") else "incorrect"
    return Verdict(label, reply)


def kind_of_reason(label: str, reason: str | None) -> str | None:
    """The kind of a judge's reason, for counting: its replies are all different."""
    if label == "correct" or reason is None:
        return None
    return "judged wrong" if label == "incorrect" else reason.partition(":")[0]


def sentences(metrics: dict[str, Any]) -> list[str]:
    """A judge's usage and its agreement with the exact verifier, from a manifest's metrics; none without a judge."""
    row = metrics.get("judge")
    if not row:
        return []
    cost = "" if row["cost_usd"] is None else f", {row['cost_usd']:.2f} USD"
    tokens = f"{row['prompt_tokens']:,} + {row['completion_tokens']:,} tokens"
    lines = [f"judge     {row['model']}: {row['replies']:,} replies, {tokens}{cost}"]
    agreement = row["agreement"]
    if agreement is None or not agreement["n"]:
        return [*lines, "agreement unknown: no answer was decided by both the judge and the exact verifier"]
    share, low, high = (f"{agreement[name]:.1%}" for name in ("share", "low", "high"))
    return [
        *lines,
        f"agreement {share} with the exact verifier on {agreement['n']:,} answers with gold (95% interval {low} to "
        f"{high}): {agreement['only_judge']:,} correct for the judge only, {agreement['only_exact']:,} for the exact "
        f"verifier only; {agreement['undecided']:,} undecided by the judge",
    ]


def _requests(judge: Judge, cases: Iterable[Case]) -> list[Request | None]:
    """The request for each case; None where the response was cut before its answer or in it: nothing is judged then."""
    model, rendering = teacher_fingerprint(judge), request_rendering(judge)
    return [None if case.is_cut else _request(judge, model, rendering, case) for case in cases]


def _request(judge: Judge, model: str, rendering: dict[str, Any], case: Case) -> Request:
    values = {
        "question": case.question,
        "gold": case.gold if case.gold is not None and usable(case.gold) else "not known",
        "rationale": parse(case.response).rationale or "none",
        "answer": case.answer or "none",
        "response": case.response,
        "document": case.document or "none",
    }
    prompt = _FIELD.sub(lambda field: values[field[1]], judge.prompt)
    opening = [{"role": "system", "content": judge.system}] if judge.system else []
    turns = [*opening, {"role": "user", "content": prompt}]
    return Request(
        question_id="",
        messages=folded(turns) if judge.fold_system else turns,
        model=model,
        temperature=0.0,
        top_p=1.0,
        top_k=0,
        max_tokens=judge.max_tokens,
        seed=0,
        sample_index=0,
        extra=judge.extra,
        omit=tuple(judge.omit),
        rendering=rendering,
    )


def _replies(store: ResponseStore, keys: Iterable[str], judge: Judge) -> dict[str, tuple[str, str]]:
    """Text and finish reason of the stored reply, by key."""
    replies = store.find(list(keys), judge.max_tokens).select("key", "text", "finish_reason")
    return {key: (text, finish) for key, text, finish in replies.iter_rows()}


def _ask(
    judge: Judge, missing: Sequence[Request], store: ResponseStore, paid_by: str, done: Callable[[str], None]
) -> dict[str, Failure]:
    """Store the reply to each of `missing`; returns the failures by key."""
    from cohobate.teachers.generate import store_responses
    from cohobate.teachers.kinds import open_backend

    failures: dict[str, Failure] = {}

    def watch(batch: Batch) -> None:
        failures.update({item.request.key: item for item in batch if isinstance(item, Failure)})
        for item in batch:
            done(item.request.key if isinstance(item, Failure) else item.key)

    def note_stored(keys: Sequence[str]) -> None:
        for key in keys:
            done(key)

    with store.claims() as claims:
        stored = _replies(store, [request.key for request in missing], judge)  # by another run, meanwhile
        note_stored([*stored])
        rest = [request for request in missing if request.key not in stored]
        if rest:
            store_responses(
                *(open_backend(judge, judge), rest, store, claims, watch, note_stored),
                paid_by=paid_by,
                max_tokens=judge.max_tokens,
            )
    return failures


def _refuse_failures(judge: Judge, failures: dict[str, Failure], total: int) -> None:
    failed = [failure for failure in failures.values() if failure.error_class != _REFUSED]
    if len(failed) > judge.max_failures * total:
        last = failed[-1]
        raise TeacherError(
            f"{len(failed)} of {total} requests to the judge have failed (the last by {last.error_class}: "
            f"{last.message}), more than {judge.section}.max_failures = {judge.max_failures:g} allows; its replies are "
            "stored, so running again asks only for the rest"
        )


def _verdict(request: Request | None, replies: dict[str, tuple[str, str]], failures: dict[str, Failure]) -> Verdict:
    if request is None:
        return TRUNCATED
    if request.key in replies:
        return read_verdict(*replies[request.key])
    failure = failures[request.key]
    return Verdict("undecided", f"{failure.error_class}: {failure.message}"[:_LONGEST_REASON])


def _entry(judge: Judge, rows: pl.DataFrame, stage: str, work: Work, paid: Paid) -> LedgerEntry:
    from cohobate.models.loading import model_path

    cost = cost_of_folder(model_path(judge.model)) if judge.is_folder else UNKNOWN
    lengths = rows["prompt_tokens"].to_list(), rows["completion_tokens"].to_list()
    return entry(stage, "judge", work, cost, *lengths, paid)
