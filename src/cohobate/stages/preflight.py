"""Refuse before spending: everything that can be checked about a recipe before a stage runs."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from cohobate.config import Judge, Recipe, Teacher, Triples
from cohobate.config.load import changed
from cohobate.core.errors import CohobateError, TeacherError, UserError
from cohobate.store.artifacts import data_root

if TYPE_CHECKING:
    from cohobate.models.sequence import TrainingSequence
    from cohobate.teachers.base import TeacherBackend

# In sizes of the student's weights: three snapshots of weights and two Adam moments, two published models, and room.
_MARGIN = 12
# Checks without which the others cannot be made.
_GROUNDS = (
    *("data folder", "vllm", "vllm of the student", "teacher loads", "teacher answers", "student loads"),
    *("server starts", "server scores", "server vocabulary", "server tokenizer"),
)


@dataclass(frozen=True)
class Check:
    """One line of the verdict."""

    name: str
    passed: bool
    detail: str


Role = Literal["teacher", "student"]
BOTH: tuple[Role, ...] = ("teacher", "student")


def check(recipe: Recipe, roles: Sequence[Role] = BOTH, *, ask: bool = True) -> list[Check]:
    """All checks of the models in `roles`, in order; what an earlier failure makes impossible is left out.

    ask: send an endpoint a request, which it may charge for; start a vLLM teacher and ask it.
    """
    results: list[Check] = []
    with closing(_probes(recipe, roles, ask)) as probes:
        for name, probe in probes:
            try:
                results.append(Check(name, True, probe()))
            except CohobateError as error:
                results.append(Check(name, False, str(error)))
                if name in _GROUNDS:
                    break
    return results


def require(recipe: Recipe, roles: Sequence[Role] = BOTH) -> None:
    """Raise the first failed check as a UserError; a stage calls this before it spends anything.

    No endpoint and no engine is asked: the first answers show whether it will do.
    """
    for item in check(recipe, roles, ask=False):
        if not item.passed:
            raise UserError(f"{item.detail} (preflight: {item.name})")


def print_checks(checks: list[Check]) -> None:
    """A table with a verdict a line."""
    from rich.console import Console
    from rich.table import Table

    table = Table("", "check", "finding", box=None, header_style="bold")
    for item in checks:
        table.add_row("[green]ok[/]" if item.passed else "[red]no[/]", item.name, item.detail)
    Console().print(table)


def _probes(recipe: Recipe, roles: Sequence[Role], ask: bool) -> Generator[tuple[str, Callable[[], str]]]:
    models: dict[str, Any] = {}

    def loads(name: str, path: str) -> str:
        from cohobate.models.loading import load

        models[name] = load(path, device=recipe.runtime.device)
        return f"{path}: {models[name].model.num_parameters():,} parameters on {models[name].device}"

    def reads(name: str, path: str) -> str:
        from cohobate.models.loading import outline

        models[name] = outline(path)
        return f"{path}: {models[name].config.model_type}, which vLLM loads"

    # Where vLLM generates, or a server scores, and nothing else needs the teacher, its weights are not loaded here.
    alone = recipe.teacher.uses_engine and "student" not in roles
    scores = (recipe.opd.steps and recipe.opd.asks_teacher) or (recipe.sft.steps and recipe.sft.asks_teacher)
    served = bool(scores and recipe.teacher.scores_by_server)
    yield "data folder", _data_folder
    if recipe.curation is not None:
        yield "curation", lambda: _curation(recipe)
    if "teacher" in roles:
        if recipe.teacher.is_endpoint and ask:
            yield "teacher answers", lambda: _answers(recipe.teacher, recipe.triples)
            yield "teacher as asked", lambda: _server_defaults(recipe.teacher, recipe.triples)
        if (recipe.teacher.uses_engine and (ask or alone)) or (served and not recipe.teacher.base_urls):
            yield "vllm", _vllm
        if recipe.teacher.uses_engine and ask:
            yield "teacher answers", lambda: _engine_answers(recipe)
        if recipe.teacher.is_folder:
            light = alone or (served and not ask)
            yield "teacher loads", lambda: (reads if light else loads)("teacher", recipe.teacher.model)
    if "student" in roles:
        if recipe.opd.steps and recipe.opd.sampler == "vllm":
            yield "vllm of the student", _vllm
        yield "student loads", lambda: loads("student", recipe.student.model)
        yield "disk", lambda: _disk(models["student"].model)
    judge = recipe.triples.verifier.judge
    if judge is not None and recipe.triples.verifier.name == "judge" and ask:
        yield "judge answers", lambda: _judges(judge, recipe)
        if judge.is_endpoint:
            yield "judge as asked", lambda: _server_defaults(judge)
    if models:
        yield "template", lambda: _template(recipe, models)
        yield "lengths", lambda: _lengths(recipe, models)
    if scores and "student" in models:
        yield from _scoring_probes(recipe, models, served, ask)


def _scoring_probes(
    recipe: Recipe, models: dict[str, Any], served: bool, ask: bool
) -> Iterator[tuple[str, Callable[[], str]]]:
    if "teacher" in models:
        yield "tokenizers", lambda: _tokenizers(recipe, models)
        if not served:
            yield "scores repeat", lambda: _repeats(recipe, models["teacher"])
    yield "self-distillation", lambda: _self_kl(recipe, models["student"])
    if served and ask:
        yield from _server_probes(recipe, models)


def _server_probes(recipe: Recipe, models: dict[str, Any]) -> Iterator[tuple[str, Callable[[], str]]]:
    """Those of the server that scores, which runs for so long where none is given."""
    from cohobate.teachers.endpoint.scoring_checks import checks
    from cohobate.teachers.vllm.server import scoring_server

    with ExitStack() as stack:
        addressed = [recipe]

        def starts() -> str:
            addressed.append(stack.enter_context(scoring_server(recipe)))
            return f"vLLM scores at {', '.join(addressed[-1].teacher.base_urls)}"

        if not recipe.teacher.base_urls:
            yield "server starts", starts
        teacher = models.get("teacher")
        local = None if teacher is None else lambda row: _local_scores(recipe, teacher, row)
        yield from checks(addressed[-1], models["student"], local)


def _data_folder() -> str:
    from cohobate.core.atomic_files import storage_errors, write_json_atomic

    root = data_root()
    with storage_errors(root):
        write_json_atomic(root / ".writable", True)
        (root / ".writable").unlink()
    return f"{root} can be written"


def _curation(recipe: Recipe) -> str:
    """What the triples are to be mixed with must be there before the teacher is asked."""
    from cohobate.datasets.curation.language_id import check as check_languages
    from cohobate.store.artifacts import Store

    config = recipe.curation
    assert config is not None
    if config.languages:
        check_languages(config.languages)
    others = [Store().find(part.triples).id for part in config.mix.parts if part.triples is not None]
    for name in others:
        if not name.startswith("triples/"):
            raise CohobateError(f"curation.mix names {name}, which is no triples artifact (`cohobate ls`)")
    return f"mixes the triples with {', '.join(others)}" if others else "needs nothing else"


def _judges(judge: Judge, recipe: Recipe) -> str:
    if judge.is_endpoint:
        return _answers(judge, judge)
    from cohobate.models.loading import load

    model = load(judge.model, device=recipe.runtime.device).model
    return f"{judge.model}: {model.num_parameters():,} parameters"


def _vllm() -> str:
    from cohobate.teachers.vllm import install as vllm

    install = vllm.find()
    return f"vLLM {install.version} of {install.python}"


def _answers(teacher: Teacher, given: Triples | Judge) -> str:
    from cohobate.teachers.kinds import open_backend

    limits = changed(given, {"attempts": 2}, "preflight")
    return _one_answer(teacher, open_backend(teacher, limits), ", ".join(teacher.base_urls))


def _server_defaults(teacher: Teacher, given: Triples | None = None) -> str:
    """given: how a teacher samples; a judge's replies are greedy."""
    from cohobate.teachers.base import Request
    from cohobate.teachers.endpoint.server_defaults import require_neutral_defaults

    shape = (given.temperature, given.top_p, given.top_k) if given else (0.0, 1.0, 0)
    return require_neutral_defaults(teacher, Request("preflight", [], teacher.model, *shape, 16, 0, 0, teacher.extra))


def _engine_answers(recipe: Recipe) -> str:
    from cohobate.teachers.kinds import open_backend

    one_at_a_time = changed(recipe.triples, {"batch_size": 1}, "preflight")
    return _one_answer(recipe.teacher, open_backend(recipe.teacher, one_at_a_time, recipe.runtime), "vLLM")


def _one_answer(teacher: Teacher, backend: TeacherBackend, where: str) -> str:
    """One small request, sent as all others will be."""
    from cohobate.models.chat_template import messages
    from cohobate.teachers.base import Failure, Request

    question = messages("What is 2 + 3?", teacher.prompt, teacher.system)
    request = Request("preflight", question, teacher.model, 0.0, 1.0, 0, 16, 0, 0, teacher.extra)
    try:
        outcomes = [item for batch in backend.answer([request]) for item in batch]
    finally:
        backend.stop()
    for item in outcomes:
        if isinstance(item, Failure):
            raise TeacherError(f"{where} does not answer ({item.error_class}: {item.message})")
        return f"{item.served_model or teacher.model} at {where} answers in {item.latency_ms:.0f} ms"
    raise TeacherError(f"{where} does not answer")


def _disk(model: Any) -> str:
    from cohobate.core.formatting import size

    needed = _MARGIN * sum(p.numel() * p.element_size() for p in model.parameters())
    free = shutil.disk_usage(data_root()).free
    if free < needed:
        raise CohobateError(
            f"{data_root()} has {size(free)} free and about {size(needed)} are needed; free some space, or set "
            "COHOBATE_DATA to a folder with more"
        )
    return f"{size(free)} free, about {size(needed)} needed"


def _template(recipe: Recipe, models: dict[str, Any]) -> str:
    """The rendered prompt must decode to itself: otherwise special tokens are lost on the way."""
    from cohobate.models.chat_template import encode, messages

    for name, model in models.items():
        section, tokenizer = getattr(recipe, name), model.tokenizer
        if not tokenizer.chat_template:
            raise CohobateError(f"the {name}'s tokenizer has no chat template; use a chat model")
        text = tokenizer.apply_chat_template(
            messages("What is 2 + 3?", section.prompt, section.system),
            tokenize=False,
            add_generation_prompt=True,
        )
        if tokenizer.decode(encode(tokenizer, text)) != text:
            raise CohobateError(f"the {name}'s chat template does not survive tokenizing and decoding")
    return f"renders and round-trips for {' and '.join(models)}"


def _lengths(recipe: Recipe, models: dict[str, Any]) -> str:
    context = min(model.config.max_position_embeddings for model in models.values())
    own, written = recipe.teacher.max_length, recipe.triples.max_tokens * recipe.teacher.is_folder
    if recipe.teacher.uses_engine and own is not None and written >= own:
        raise CohobateError(
            f"triples.max_tokens is {written}, but teacher.max_length only {own} for prompt and response together; "
            "raise teacher.max_length"
        )
    room = recipe.opd.vllm.max_length if recipe.opd.sampler == "vllm" else None
    if recipe.opd.steps and room is not None and recipe.opd.max_tokens >= room:
        raise CohobateError(
            f"opd.max_tokens is {recipe.opd.max_tokens}, but opd.vllm.max_length only {room} for prompt and response "
            "together; raise opd.vllm.max_length"
        )
    longest = max(written, recipe.opd.max_tokens, recipe.evaluation.max_tokens)
    if longest >= context:
        raise CohobateError(f"max_tokens is {longest}, but the models' context is {context}; lower max_tokens")
    return f"responses of {longest} tokens leave {context - longest} of {context} for the prompt"


def _tokenizers(recipe: Recipe, models: dict[str, Any]) -> str:
    from cohobate.models.loading import refuse_mismatch

    if recipe.opd.steps and recipe.opd.by_spans and not (recipe.sft.steps and recipe.sft.asks_teacher):
        both = len(models["teacher"].tokenizer), len(models["student"].tokenizer)
        return f"spans of text are scored: {both[0]} tokens of the teacher, {both[1]} of the student"
    refuse_mismatch(models["teacher"], models["student"])
    return f"the same {len(models['student'].tokenizer)} tokens, end ids {models['student'].eos_ids}"


def _scores(recipe: Recipe, model: Any) -> Any:
    from cohobate.models.chat_template import encode, question_ids, student_format
    from cohobate.models.logprobs import score
    from cohobate.models.sequence import TrainingSequence

    prompt = question_ids(model.tokenizer, "What is 2 + 3?", student_format(recipe))
    response = encode(model.tokenizer, "2 + 3 = 5.\nAnswer: 5")
    rows = [TrainingSequence([*prompt, *response], len(prompt)) for _ in range(2)]
    return score(model.model, rows, recipe.opd.tokens_per_batch, model.pad_id)


def _local_scores(recipe: Recipe, model: Any, row: TrainingSequence) -> list[float]:
    from cohobate.models.logprobs import score

    [found] = score(model.model, [row], recipe.opd.tokens_per_batch, model.pad_id)
    logprobs: list[float] = found.logprobs.tolist()
    return logprobs


def _repeats(recipe: Recipe, teacher: Any) -> str:
    first, second = _scores(recipe, teacher)
    difference = float((first.logprobs - second.logprobs).abs().max())
    if difference > 1e-3:
        raise CohobateError(f"the teacher's scores of the same tokens differ by {difference:.2g} nats")
    return f"the teacher's scores of the same tokens differ by {difference:.1g} nats"


def _self_kl(recipe: Recipe, student: Any) -> str:
    """A model distilled into itself has nothing to learn: the KL must be 0."""
    import torch

    from cohobate.models.token_loss import Tokens
    from cohobate.training.objectives.opd import ExactReverseKL

    scored = _scores(recipe, student)[0]
    head = student.model.get_output_embeddings()
    assert scored.hidden is not None
    hidden = scored.hidden.to(student.device)
    ids = torch.zeros(len(hidden), dtype=torch.long, device=student.device)
    with torch.no_grad():
        logits = head(hidden).float()
        tokens = Tokens(ids, sampler_logprobs=logits.log_softmax(-1)[:, 0], teacher_hidden=hidden)
        kl = float(ExactReverseKL(head)(logits, tokens)["loss"]) / len(hidden)
    if abs(kl) > 1e-5:
        raise CohobateError(f"the student's KL to itself is {kl:.2g} nats a token, not 0")
    return f"KL of the student to itself is {kl:.1g} nats a token"
