"""The verifier `judge`: a language model says whether an answer is right.

Its replies are stored like a teacher's, under what it was asked, so that the same answer is never judged twice by the
same model and prompt. A reply whose last line is +1 or -1 is a verdict; anything else - words, a refusal, a time-out -
leaves the answer undecided, with what came instead as the reason.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from cohobate.config import Judge
from cohobate.core.answer_parsing import parse
from cohobate.core.answer_text import usable
from cohobate.core.errors import TeacherError
from cohobate.core.fingerprint import hash_value
from cohobate.evaluation.verifiers.verdict import Case, Label, Verdict
from cohobate.store.ledger import UNKNOWN, LedgerEntry, ModelCost, Paid, Work, entry
from cohobate.teachers.base import Batch, Failure, Request, teacher_fingerprint
from cohobate.teachers.response_store import ResponseStore

if TYPE_CHECKING:
    import polars as pl

PREFIX = "judge:"
# Fields of the prompt; one pass, so that what stands in an answer is never taken for a field.
_FIELD = re.compile(r"\{(question|gold|rationale|answer|response|document)\}")
_SAID = re.compile(r"(?:verdict|reply|score|judge?ment)?\s*[:=]?\s*([+\-−–]?)\s?1\W*", re.IGNORECASE)
_LONGEST_REASON = 300
# What the provider will not judge is a reply, not a failure of the judge.
_REFUSED = "Refused"


def identity(judge: Judge) -> dict[str, Any]:
    """What changes the verdicts: the model, what it is asked, and how."""
    return {**judge.identity(), "model": teacher_fingerprint(judge)}


def name(judge: Judge) -> str:
    """judge:MODEL@8 hex, the name of its verdicts: another model or prompt is another judge."""
    return f"{PREFIX}{PurePath(judge.model).name}@{hash_value(identity(judge))[:8]}"


def check(judge: Judge) -> None:
    """Refuse before spending. Raises EndpointError without the key, ModelError without the model."""
    if judge.is_endpoint:
        from cohobate.teachers.kinds import open_backend

        open_backend(judge, judge)
    else:
        teacher_fingerprint(judge)


def decide(judge: Judge, cases: Sequence[Case], done: Callable[[int], None], paid_by: str) -> list[Verdict]:
    """A verdict for each case, in order; equal cases are asked once, and those of earlier runs not at all.

    Raises EndpointError or TeacherError when the judge fails systematically; its replies so far are kept.
    """
    asked = _requests(judge, cases)
    wanted = {request.key: request for request in asked if request is not None}
    times = Counter(request.key for request in asked if request is not None)
    store = ResponseStore()
    replies = _replies(store, wanted, judge)
    done(len(cases) - sum(times[key] for key in wanted if key not in replies))
    missing = [request for key, request in wanted.items() if key not in replies]
    failures: dict[str, Failure] = {}
    if missing:
        failures = _ask(judge, missing, store, paid_by, lambda key: done(times[key]))
        _refuse_failures(judge, failures, len(wanted))
        replies = _replies(store, wanted, judge)
    return [_verdict(request, replies, failures) for request in asked]


def spent(
    judge: Judge, cases: Sequence[Case], stage: str, mark: str, work: Work = "judging"
) -> tuple[list[LedgerEntry], dict[str, Any]]:
    """What judging `cases` took, by who paid: `mark` here, others earlier. Ledger, and counts with the cost in USD."""
    wanted = {request.key: request for request in _requests(judge, cases) if request is not None}
    found = ResponseStore().find(list(wanted), judge.max_tokens)
    here = found["paid_by"] == mark
    payers: tuple[tuple[Paid, pl.DataFrame], ...] = (("here", found.filter(here)), ("earlier", found.filter(~here)))
    entries = [_entry(judge, rows, stage, work, paid) for paid, rows in payers if len(rows)]
    tokens = int(found["prompt_tokens"].sum()), int(found["completion_tokens"].sum())
    counts = {
        "model": judge.model if judge.is_endpoint else PurePath(judge.model).name,
        "replies": len(found),
        "prompt_tokens": tokens[0],
        "completion_tokens": tokens[1],
        "cost_usd": judge.cost_usd(*tokens),
    }
    return entries, counts


def read_verdict(text: str, *, truncated: bool = False) -> Verdict:
    """The verdict of a reply, with the reply as its reason."""
    said = " ".join(text.split())[:_LONGEST_REASON]
    if truncated:
        return Verdict("undecided", f"reply cut at the token limit: {said}")
    lines = text.rpartition("</think>")[2].strip().split("\n")
    match = _SAID.fullmatch(lines[-1].strip(" *_`$\t\r"))
    if not match:
        return Verdict("undecided", f"unclear reply: {said}")
    label: Label = "correct" if match[1] in ("", "+") else "incorrect"
    return Verdict(label, said)


def reason(label: str, said: str | None) -> str | None:
    """The kind of a judge's reason, for counting: its replies are all different."""
    if label == "correct" or said is None:
        return None
    return "judged wrong" if label == "incorrect" else said.partition(":")[0]


def sentences(metrics: dict[str, Any]) -> list[str]:
    """What a judge read and wrote, and how often it agrees with the exact verifier; nothing without a judge."""
    counted = metrics.get("judge")
    if not counted:
        return []
    cost = "" if counted["cost_usd"] is None else f", {counted['cost_usd']:.2f} USD"
    tokens = f"{counted['prompt_tokens']:,} + {counted['completion_tokens']:,} tokens"
    said = f"judge     {counted['model']}: {counted['replies']:,} replies, {tokens}{cost}"
    found = counted["agreement"]
    if found is None or not found["n"]:
        return [said, "agreement unknown: no answer was decided by both the judge and the exact verifier"]
    share, low, high = (f"{found[name]:.1%}" for name in ("share", "low", "high"))
    return [
        said,
        f"agreement {share} with the exact verifier on {found['n']:,} answers with gold (95% interval {low} to "
        f"{high}): {found['only_judge']:,} correct for the judge only, {found['only_exact']:,} for the exact verifier "
        f"only; {found['undecided']:,} undecided by the judge",
    ]


def _requests(judge: Judge, cases: Iterable[Case]) -> list[Request | None]:
    """None where there is nothing to judge, since the response was cut before its answer."""
    model = teacher_fingerprint(judge)
    return [None if case.truncated and case.answer is None else _request(judge, model, case) for case in cases]


def _request(judge: Judge, model: str, case: Case) -> Request:
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
    return Request(
        question_id="",
        messages=[*opening, {"role": "user", "content": prompt}],
        model=model,
        temperature=0.0,
        top_p=1.0,
        top_k=0,
        max_tokens=judge.max_tokens,
        seed=0,
        sample_index=0,
        extra=judge.extra,
    )


def _replies(store: ResponseStore, wanted: Iterable[str], judge: Judge) -> dict[str, tuple[str, bool]]:
    """Text of the stored reply, and whether it was cut, by key."""
    found = store.find(list(wanted), judge.max_tokens).select("key", "text", "finish_reason")
    return {key: (text, finish == "length") for key, text, finish in found.iter_rows()}


def _ask(
    judge: Judge, missing: Sequence[Request], store: ResponseStore, paid_by: str, done: Callable[[str], None]
) -> dict[str, Failure]:
    """Store the reply to each of `missing`, but for the failures that are returned, by key."""
    from cohobate.teachers.generate import store_responses
    from cohobate.teachers.kinds import open_backend

    failures: dict[str, Failure] = {}

    def watch(batch: Batch) -> None:
        failures.update({item.request.key: item for item in batch if isinstance(item, Failure)})
        for item in batch:
            done(item.request.key if isinstance(item, Failure) else item.key)

    store_responses(open_backend(judge, judge), missing, store, watch, paid_by=paid_by, max_tokens=judge.max_tokens)
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


def _verdict(request: Request | None, replies: dict[str, tuple[str, bool]], failures: dict[str, Failure]) -> Verdict:
    if request is None:
        return Verdict("undecided", "truncated")
    if request.key in replies:
        text, truncated = replies[request.key]
        return read_verdict(text, truncated=truncated)
    failure = failures[request.key]
    return Verdict("undecided", f"{failure.error_class}: {failure.message}"[:_LONGEST_REASON])


def _entry(judge: Judge, rows: pl.DataFrame, stage: str, work: Work, paid: Paid) -> LedgerEntry:
    from cohobate.models.loading import model_path

    cost = ModelCost.of_folder(model_path(judge.model)) if judge.is_folder else UNKNOWN
    lengths = rows["prompt_tokens"].to_list(), rows["completion_tokens"].to_list()
    return entry(stage, "judge", work, cost, *lengths, paid)
