"""Probes: greedy requests that an endpoint is asked anew each night, to notice another model under the same name.

    data/probes/<model>-<8 hex>.json    the requests, the replies that are kept, and what later nights differed in

The file belongs to one teacher and request: provider, name and revision, prompt, system message, further parameters,
length and seed. In the first night each probe is asked `TIMES` times, and these replies are kept for good: they also
say how often the server answers the same request in another way by itself. In a later night a probe differs where its
reply is none of them.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, ValidationError

from cohobate.config import Gate, Recipe
from cohobate.core import context, progress
from cohobate.core.atomic_files import storage_errors
from cohobate.core.conversation import queries
from cohobate.core.errors import DamagedFileError, EndpointError, TeacherError
from cohobate.core.fingerprint import hash_value
from cohobate.core.locks import exclusive
from cohobate.core.sealed_files import move_aside
from cohobate.core.sealed_json import read_sealed_json, write_sealed_json
from cohobate.core.statistics import Interval, newcombe, wilson
from cohobate.models.chat_template import messages
from cohobate.store.artifacts import data_root
from cohobate.teachers.base import Request, Response, request_rendering, teacher_fingerprint
from cohobate.teachers.kinds import open_backend

if TYPE_CHECKING:
    import polars as pl

TIMES = 3
_MAX_TOKENS = 256  # of a reply: what differs does so early
_LONGEST = 1 << 14  # characters that are kept of a reply, whose length is up to the server
_NIGHTS = 100  # the newest that a file remembers


class Reply(BaseModel):
    """What came back, and under which model's name."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    text: str
    reasoning: str | None = None
    served_model: str | None = None


class Probe(BaseModel):
    """A request and the replies to it that are kept. at: UTC, when they came."""

    model_config = ConfigDict(extra="forbid")

    question_id: str
    messages: list[dict[str, str]]
    replies: list[Reply]
    at: str

    @property
    def is_blank(self) -> bool:
        """Whether the kept replies have neither text nor reasoning."""
        return not any(reply.text or reply.reasoning for reply in self.replies)


class ProbedNight(BaseModel):
    """A night in which replies differed: when, of how many, and the new reply of each such question."""

    model_config = ConfigDict(extra="forbid")

    at: str
    run_id: str | None
    answered: int
    differing: dict[str, Reply]


class ProbeFile(BaseModel):
    """All that is known of one teacher's probes. changed_at: UTC, the first night of another model; None: none yet."""

    model_config = ConfigDict(extra="forbid")

    teacher: str
    probes: list[Probe] = []
    nights: list[ProbedNight] = []
    changed_at: str | None = None

    def first_change(self, limit: float) -> str | None:
        """When more probes differed for the first time than `limit` and a server's own unsteadiness explain."""
        moments = (each.at for each in self.nights if self._difference(each).low > limit)
        return self.changed_at or next(moments, None)

    def _difference(self, night: ProbedNight) -> Interval:
        return _difference(len(night.differing), night.answered, _unsteady(self.probes), len(self.probes))


@dataclass(frozen=True)
class ProbeResult:
    """The probes of a night. since: UTC, when the kept replies came; None in the first night, which keeps them.

    probes: how many have kept replies; unsteady: to how many of these the last kept reply was another than those before
    it. served: the model's names in replies then and now, where they are others. problem: why probes have no reply, if
    some have none.
    """

    teacher: str
    since: str | None
    answered: int
    differing: int
    probes: int
    unsteady: int
    served: tuple[str, str] | None = None
    problem: str | None = None

    @property
    def difference(self) -> Interval:
        """Share of probes that differ, less the share that differs by itself."""
        return _difference(self.differing, self.answered, self.unsteady, self.probes)

    @property
    def sentence(self) -> str:
        """What to tell."""
        if self.since is None:
            return f"probes of {self.teacher}: {self.probes} are kept" + self._trouble
        counted = f"{self.differing} of {self.answered} probes of {self.teacher} differ"
        steady = f", where {self.unsteady} of {self.probes} differed by themselves" if self.unsteady else ""
        served = f"; replies say {self.served[1]}, and said {self.served[0]}" if self.served else ""
        return f"{counted} from the replies of {self.since[:10]}" + steady + served + self._trouble

    @property
    def _trouble(self) -> str:
        return f"; {self.problem}" if self.problem else ""


def _difference(differing: int, answered: int, unsteady: int, probes: int) -> Interval:
    return newcombe(wilson(differing, answered), wilson(unsteady, probes))


def _unsteady(probes: Sequence[Probe]) -> int:
    """To how many the last kept reply was another than those before it."""
    return sum(each.replies[-1] not in each.replies[:-1] for each in probes)


def probe(recipe: Recipe, questions: pl.DataFrame) -> ProbeResult:
    """Ask the probes of a recipe that has some. questions: of which the first night chooses.

    A server that does not answer is told in the result: whether it is needed tonight, later stages find out.
    """
    count = recipe.teacher.probes
    with _file(recipe) as (path, file):
        old, problems = file.probes[:count], list[str]()
        new = _chosen(recipe, questions, {each.question_id for each in file.probes}, count - len(file.probes))
        tonight = _ask(recipe, [*old, *new], problems)
        rounds = [tonight, *(_ask(recipe, new, problems) for _ in range(TIMES - 1))]
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        complete = _with_replies(new, rounds, now)
        file.probes += (telling := [each for each in complete if not each.is_blank])
        if blank := len(complete) - len(telling):
            problems.append(
                f"{blank} of {len(complete)} new probes got neither text nor reasoning within {_max_tokens(recipe)} "
                "tokens and are not kept, for they cannot tell one model from another"
            )
        answered = [each for each in old if each.question_id in tonight]
        changed = [each.question_id for each in answered if tonight[each.question_id] not in each.replies]
        if changed:
            differing = {name: tonight[name] for name in changed}
            night = ProbedNight(at=now, run_id=context.current().run_id, answered=len(answered), differing=differing)
            file.nights.append(night)
            file.changed_at = file.first_change(min(recipe.gate.probes, Gate().probes))
            file.nights = file.nights[-_NIGHTS:]
        write_sealed_json(path, file.model_dump(mode="json"))
    compared = old or file.probes
    return ProbeResult(
        teacher=file.teacher,
        since=min(each.at for each in old) if old else None,
        answered=len(answered),
        differing=len(changed),
        probes=len(compared),
        unsteady=_unsteady(compared),
        served=_served(old, tonight),
        problem=problems[0] if problems else None,
    )


def _with_replies(new: Sequence[Probe], rounds: Sequence[dict[str, Reply]], now: str) -> list[Probe]:
    """Those of the new probes that were answered each time."""
    complete = [each for each in new if all(each.question_id in replies for replies in rounds)]
    for each in complete:
        each.replies, each.at = [replies[each.question_id] for replies in rounds], now
    return complete


def first_change(teacher: str) -> str | None:
    """When, in UTC, this teacher (see `teacher_fingerprint`) first answered its probes as another model would.

    None where it never did; what an unsteady server says otherwise by itself is no change.
    """
    moments = []
    for path in sorted((data_root() / "probes").glob("*.json")):
        try:
            file = ProbeFile.model_validate(read_sealed_json(path))
        except (DamagedFileError, ValidationError):
            continue
        if file.teacher == teacher and (moment := file.first_change(Gate().probes)):
            moments.append(moment)
    return min(moments, default=None)


@contextmanager
def _file(recipe: Recipe) -> Iterator[tuple[Path, ProbeFile]]:
    """The file of the recipe's teacher, and what it holds; another run waits for the end of the block."""
    teacher = recipe.teacher
    name = teacher_fingerprint(teacher)
    settings: list[Any] = [
        name,
        teacher.prompt,
        teacher.system,
        teacher.extra,
        sorted(teacher.omit),
        request_rendering(teacher),
    ]
    if (limited := (_max_tokens(recipe), recipe.triples.seed)) != (_MAX_TOKENS, 0):  # with these the name stays
        settings = [*settings, *limited]
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", teacher.model).strip("-.")[:60] or "teacher"
    path = data_root() / "probes" / f"{plain}-{hash_value(settings)[:8]}.json"
    with storage_errors(data_root()), exclusive(path.with_name(f".{path.stem}.lock"), f"the probes of {name}"):
        yield path, _read(path, name)


def _read(path: Path, teacher: str) -> ProbeFile:
    if not path.exists():
        return ProbeFile(teacher=teacher)
    try:
        file = ProbeFile.model_validate(read_sealed_json(path))
        file.probes = [each for each in file.probes if not each.is_blank]
        return file
    except (DamagedFileError, ValidationError):
        progress.say(f"{path} cannot be read as probes; it is moved aside, and replies are kept anew")
        move_aside(path)
        return ProbeFile(teacher=teacher)


def _chosen(recipe: Recipe, questions: pl.DataFrame, chosen: set[str], count: int) -> list[Probe]:
    """Probes of so many more questions: those to learn from whose ids have the least hashes."""
    if count <= 0:
        return []
    rows = questions.filter(questions["split"] == recipe.triples.split)
    teacher = recipe.teacher
    named = dict(zip(rows["question_id"], queries(rows), strict=True))
    least = sorted(
        (name for name in named if name not in chosen), key=lambda name: hashlib.sha256(name.encode()).digest()
    )
    return [
        Probe(
            question_id=name,
            messages=messages(named[name], teacher.prompt, teacher.system, fold=teacher.fold_system),
            replies=[],
            at="",
        )
        for name in least[:count]
    ]


def _ask(recipe: Recipe, probes: Sequence[Probe], problems: list[str]) -> dict[str, Reply]:
    """The reply to each, by question; why others have none is added to `problems`."""
    by_key = {request.key: request.question_id for request in (_request(recipe, each) for each in probes)}
    replies: dict[str, Reply] = {}
    if not probes:
        return replies
    try:
        backend = open_backend(recipe.teacher, recipe.triples, recipe.runtime)
        try:
            for batch in backend.answer([_request(recipe, each) for each in probes]):
                for item in batch:
                    if isinstance(item, Response):
                        replies[by_key[item.key]] = _reply(item)
                    else:
                        problems.append(f"a probe failed: {item.message}")
        finally:
            backend.stop()
    except (EndpointError, TeacherError) as error:
        problems.append(f"the probes could not be asked: {error}")
    return replies


def _reply(response: Response) -> Reply:
    reasoning = None if response.reasoning is None else response.reasoning[:_LONGEST]
    return Reply(text=response.text[:_LONGEST], reasoning=reasoning, served_model=response.served_model)


def _max_tokens(recipe: Recipe) -> int:
    return min(_MAX_TOKENS, recipe.triples.max_tokens)


def _request(recipe: Recipe, probe: Probe) -> Request:
    teacher = recipe.teacher
    return Request(
        question_id=probe.question_id,
        messages=probe.messages,
        model=teacher_fingerprint(teacher),
        temperature=0.0,
        top_p=1.0,
        top_k=0,
        max_tokens=_max_tokens(recipe),
        seed=recipe.triples.seed,
        sample_index=0,
        extra=teacher.extra,
        omit=tuple(teacher.omit),
        rendering=request_rendering(teacher),
    )


def _served(old: Sequence[Probe], replies: dict[str, Reply]) -> tuple[str, str] | None:
    """The models' names then and now, where a reply has another name than the kept ones."""
    before = sorted({reply.served_model for each in old for reply in each.replies if reply.served_model})
    now = sorted({reply.served_model for reply in replies.values() if reply.served_model})
    if not before or not now or set(now) <= set(before):
        return None
    return ", ".join(before), ", ".join(now)
