"""Checks of a server that scores, made before anything is spent on it: model, tokens, template, end, repeatability.

Scores of a server that reads other tokens, or renders another prompt, look as good as right ones.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import date
from typing import Any

from cohobate.config import Recipe, Teacher
from cohobate.config.load import changed
from cohobate.core.errors import CohobateError, TeacherError, UserError
from cohobate.models.chat_template import messages
from cohobate.models.loading import LoadedModel, ModelOutline, outline
from cohobate.models.rendering import Rendering, rendered_ids
from cohobate.models.sequence import TrainingSequence
from cohobate.models.special_tokens import encode
from cohobate.teachers.endpoint.client import Exchange
from cohobate.teachers.endpoint.http import read_json
from cohobate.teachers.endpoint.prompt_logprobs import PromptLogprobs, ScoreRequest, ScoreWire, Unscored

_QUESTION, _RESPONSE = "What is 2 + 3?", "2 + 3 = 5.\nAnswer: 5"
_COMPARED = 1000  # tokens of the vocabulary whose texts are compared
_ROW = 50  # of these, tokens per sequence
_LONGEST = 64  # tokens within which the teacher must end a response
_REPEATS = 3
# Tolerated mean difference of scores of the same tokens, in nats; bfloat16 in batches of other sizes makes 0.01.
_NOISE, _OTHER_MODEL = 0.05, 0.1

Student = LoadedModel | ModelOutline


def scoring_tokenizer(teacher: Teacher, student: Student) -> Any:
    """The tokenizer of the prompts under which `teacher` scores: of its folder, the named one, or the student's."""
    folder = teacher.model if teacher.is_folder else teacher.tokenizer
    return outline(folder, template=teacher.template).tokenizer if folder else student.tokenizer


class ScoringServer:
    """A server to be checked. Each check returns its finding, or raises a CohobateError with one sentence."""

    def __init__(self, recipe: Recipe, student: Student) -> None:
        self.recipe, self.teacher, self.student = recipe, recipe.teacher, student
        self.own, self.url = student.tokenizer, ", ".join(recipe.teacher.base_urls)
        self.theirs = scoring_tokenizer(recipe.teacher, student)
        teacher, self.rendering = recipe.teacher, Rendering.of(recipe.teacher)
        self.conversation = messages(_QUESTION, teacher.prompt, teacher.system, fold=teacher.fold_system)
        self.prompt = rendered_ids(self.theirs, self.conversation, self.rendering)
        self.row = TrainingSequence([*self.prompt, *encode(self.own, _RESPONSE)], len(self.prompt))

    def scores(self) -> str:
        [outcome] = self._outcomes([ScoreRequest({0: self.row}, 0)])
        if isinstance(outcome, Unscored):
            raise TeacherError(
                f"{self.url} does not score given token ids ({outcome.why.error_class}: {outcome.why.message}), which "
                "Ollama and llama.cpp cannot; serve the teacher with vLLM, learn from its text (opd.objective = "
                "'dpo'), or set opd.steps = 0"
            )
        [score] = outcome
        return f"{self.url} scores given tokens: {len(score.logprobs)} log-probabilities, ids echoed"

    def context(self) -> str:
        """The longest rollout must fit, with its prompt and the one token that a request generates."""
        needed = len(self.prompt) + self.recipe.opd.max_tokens + 1
        for url in self.teacher.base_urls:
            limit = context_limit(url, self.teacher)
            if limit is not None and limit < needed:
                raise CohobateError(
                    f"{url} reads at most {limit} tokens, but a rollout of {self.recipe.opd.max_tokens} with its "
                    f"prompt takes {needed} or more; serve it with a longer --max-model-len, or lower opd.max_tokens"
                )
        return f"rollouts of {self.recipe.opd.max_tokens} tokens fit"

    def vocabulary(self) -> str:
        highest = max(self.own.get_vocab().values())
        [outcome] = self._outcomes([ScoreRequest({0: TrainingSequence([self.prompt[0], highest], 1)}, 0)])
        if isinstance(outcome, Unscored):
            raise CohobateError(
                f"{self.url} does not know the student's token {highest} ({outcome.why.message}), so its vocabulary is "
                "smaller; choose a student of the teacher's family"
            )
        return f"knows the student's {highest + 1} tokens"

    def tokens(self) -> str:
        """Each token of a sample of the vocabulary must decode to the same text there and here."""
        if self.theirs.get_vocab() != self.own.get_vocab():
            raise CohobateError(
                f"the student's tokenizer differs from {self.teacher.tokenizer or self.teacher.model}'s, so the "
                "teacher cannot score its rollouts; choose a student of the teacher's family, learn from the teacher's "
                "text (opd.objective = 'dpo'), or set opd.steps = 0"
            )
        ids = sorted(self.own.get_vocab().values())
        sample = sorted({*ids[:: max(1, len(ids) // _COMPARED)], *self.student.eos_ids, ids[-1]})
        rows = [TrainingSequence([self.prompt[0], *sample[n : n + _ROW]], 1) for n in range(0, len(sample), _ROW)]
        pairs = [
            (token, theirs, self.own.decode([token]))
            for row, score in zip(rows, self._score(rows), strict=True)
            for token, theirs in zip(row.ids[1:], score.decoded, strict=True)
            if theirs is not None
        ]
        # Half a character decodes to U+FFFD, or together with the token before it.
        pairs = [pair for pair in pairs if "\ufffd" not in pair[1] + pair[2]]
        other = [pair for pair in pairs if pair[1] != pair[2]]
        if other:
            token, theirs, ours = other[0]
            raise CohobateError(
                f"{self.url} reads other tokens: {len(other)} of {len(pairs)} differ, such as id {token}, which is "
                f"{theirs!r} there and {ours!r} in the student's tokenizer; choose a student of the teacher's family"
            )
        return f"the same text for {len(pairs)} tokens" if pairs else "names no tokens, so they cannot be compared"

    def template(self) -> str:
        body = {"model": self.teacher.model, "messages": self.conversation, "add_generation_prompt": True}
        if self.rendering.args:
            body["chat_template_kwargs"] = self.rendering.args
        today = replace(self.rendering, date=date.today())  # a server's template writes the date of the day
        expected = self.prompt, rendered_ids(self.theirs, self.conversation, today)
        for url in self.teacher.base_urls:
            reply = read_json(f"{url.rstrip('/').removesuffix('/v1')}/tokenize", self.teacher, body)
            ids = _ids(reply, "tokens")
            if ids is None:
                return "says nothing of its chat template, so it cannot be compared"
            if ids not in expected:
                theirs = self.own.decode(ids)
                raise CohobateError(
                    f"{url} writes another prompt than the tokenizer here: {theirs!r} instead of "
                    f"{self.own.decode(self.prompt)!r}; serve it with the same --chat-template, or name its tokenizer "
                    "in teacher.tokenizer"
                )
        return f"the prompt is the same {len(self.prompt)} tokens here and there"

    def end(self) -> str:
        longest = min(_LONGEST, self.recipe.opd.max_tokens)
        body = {"model": self.teacher.model, "prompt": self.prompt, "max_tokens": longest, "temperature": 0}
        for url in self.teacher.base_urls:
            reply = read_json(f"{url.rstrip('/')}/completions", self.teacher, {**body, "return_token_ids": True})
            choices = reply.get("choices") if isinstance(reply, dict) else None
            choice = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}
            ids = _ids(choice, "token_ids") or []
            if choice.get("finish_reason") != "stop" or not ids:
                return f"did not end within {longest} tokens, so its end cannot be compared"
            if ids[-1] not in self.student.eos_ids:
                raise CohobateError(
                    f"{url} ends a response with id {ids[-1]}, the student with {self.student.eos_ids}, so the student "
                    "would learn never to stop; set eos_token_id in the student's generation_config.json"
                )
        return f"ends a response with id {ids[-1]}, as the student does"

    def repeats(self) -> str:
        """The same tokens, alone and beside others, of each replica."""
        reference, worst = None, 0.0
        for url in self.teacher.base_urls:
            for count in range(1, _REPEATS + 1):
                for score in self._score([self.row] * count, url):
                    reference = reference or score.logprobs
                    worst = max(worst, _difference(score.logprobs, reference))
        if worst > _NOISE:
            raise CohobateError(
                f"{self.url}: scores of the same tokens differ by {worst:.2g} nats per token, which would drown the "
                "signal; look for replicas with other weights, sampling penalties or quantisation"
            )
        return f"scores of the same tokens differ by {worst:.1g} nats per token"

    def agrees(self, local: Callable[[TrainingSequence], list[float]]) -> str:
        [score] = self._score([self.row])
        difference = _difference(score.logprobs, local(self.row))
        if difference > _OTHER_MODEL:
            raise CohobateError(
                f"{self.url} serves another model than {self.teacher.model}: their scores of the same tokens differ "
                f"by {difference:.2g} nats per token; correct teacher.model or teacher.base_url"
            )
        return f"its scores and those of {self.teacher.model} here differ by {difference:.1g} nats per token"

    def _score(self, rows: Sequence[TrainingSequence], url: str | None = None) -> list[PromptLogprobs]:
        scores: list[PromptLogprobs] = []
        for outcome in self._outcomes([ScoreRequest(dict(enumerate(rows)), 0)], url):
            if isinstance(outcome, Unscored):
                raise TeacherError(f"{self.url} does not score ({outcome.why.error_class}: {outcome.why.message})")
            scores += outcome
        return scores

    def _outcomes(
        self, requests: Sequence[ScoreRequest], url: str | None = None
    ) -> list[list[PromptLogprobs] | Unscored]:
        teacher = changed(self.teacher, {"base_url": url}, "preflight") if url else self.teacher
        limits = changed(self.recipe.triples, {"attempts": 2}, "preflight")
        exchange = Exchange(teacher, limits, ScoreWire(teacher))
        try:
            return [outcome for batch in exchange.answer(requests) for outcome in batch]
        finally:
            exchange.stop()


CHECKS: tuple[tuple[str, Callable[[ScoringServer], str]], ...] = (
    ("server scores", ScoringServer.scores),
    ("server context", ScoringServer.context),
    ("server vocabulary", ScoringServer.vocabulary),
    ("server tokenizer", ScoringServer.tokens),
    ("server template", ScoringServer.template),
    ("server end", ScoringServer.end),
    ("server repeats", ScoringServer.repeats),
)


def context_limit(url: str, teacher: Teacher) -> int | None:
    """The context in tokens of the teacher's model at `url`, where the server publishes it."""
    listing = read_json(f"{url.rstrip('/')}/models", teacher)
    data = listing.get("data") if isinstance(listing, dict) else None
    models = [each for each in data if isinstance(each, dict)] if isinstance(data, list) else []
    limits = [model.get("max_model_len") for model in models if model.get("id") == teacher.model]
    return limits[0] if limits and isinstance(limits[0], int) else None


def require_scores(recipe: Recipe, student: Student) -> None:
    """Raise the first check that fails as a UserError."""
    server = ScoringServer(recipe, student)
    for name, check in CHECKS:
        try:
            check(server)
        except CohobateError as error:
            raise UserError(f"{error} (preflight: {name})") from error


def _ids(reply: Any, name: str) -> list[int] | None:
    """A field of token ids in a reply; None where it is none."""
    ids = reply.get(name) if isinstance(reply, dict) else None
    return ids if isinstance(ids, list) and all(type(each) is int and 0 <= each < 2**31 for each in ids) else None


def _difference(one: Sequence[float], other: Sequence[float]) -> float:
    """Mean absolute difference, in nats per token."""
    return sum(abs(a - b) for a, b in zip(one, other, strict=True)) / max(1, len(one))
