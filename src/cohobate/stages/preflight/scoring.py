"""Checks of a teacher's scores: those of this process repeat, the KL of a model to itself is 0, a server agrees."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cohobate.core.errors import CohobateError
from cohobate.stages.preflight.scope import Loaded, Scope

if TYPE_CHECKING:
    from cohobate.models.sequence import TrainingSequence
    from cohobate.teachers.endpoint.scoring_checks import ScoringServer


def teacher_repeats(scope: Scope) -> str:
    """Two scores of the same tokens in one batch are equal."""
    first, second = _scores(scope, scope.loaded["teacher"])
    difference = float((first.logprobs - second.logprobs).abs().max())
    if difference > 1e-3:
        raise CohobateError(f"the teacher's scores of the same tokens differ by {difference:.2g} nats")
    return f"the teacher's scores of the same tokens differ by {difference:.1g} nats"


def self_kl(scope: Scope) -> str:
    """A model distilled into itself has nothing to learn: the KL must be 0."""
    import torch

    from cohobate.models.output_layer import OutputLayer
    from cohobate.models.token_loss import Tokens
    from cohobate.training.objectives.distributions import FullVocabulary, kl

    student = scope.loaded["student"]
    score = _scores(scope, student)[0]
    output = OutputLayer(student.model)
    assert score.hidden is not None
    hidden = score.hidden.to(student.device)
    ids = torch.zeros(len(hidden), dtype=torch.long, device=student.device)
    with torch.no_grad():
        logits = output(hidden).float()
        mean = float(kl(*FullVocabulary(output)(logits, Tokens(ids, teacher_hidden=hidden))).mean())
    if abs(mean) > 1e-5:
        raise CohobateError(f"the student's KL to itself is {mean:.2g} nats per token, not 0")
    return f"KL of the student to itself is {mean:.1g} nats per token"


def server_starts(scope: Scope) -> Loaded:
    """`vllm serve` starts, where the recipe names no server."""
    from cohobate.teachers.vllm.server import scoring_server

    addressed = scope.stack.enter_context(scoring_server(scope.recipe))
    return Loaded(f"vLLM scores at {', '.join(addressed.teacher.base_urls)}", addressed)


def server_scores(scope: Scope) -> Loaded:
    """The server scores given tokens."""
    from cohobate.teachers.endpoint.scoring_checks import ScoringServer

    server = ScoringServer(scope.loaded.get("address", scope.recipe), scope.loaded["student"])
    return Loaded(server.scores(), server)


def server_context(scope: Scope) -> str:
    """The longest rollout fits."""
    return _server(scope).context()


def server_vocabulary(scope: Scope) -> str:
    """The server knows the student's highest token."""
    return _server(scope).vocabulary()


def server_tokenizer(scope: Scope) -> str:
    """The server's tokens are the student's."""
    return _server(scope).tokens()


def server_template(scope: Scope) -> str:
    """The server renders the same prompt."""
    return _server(scope).template()


def server_end(scope: Scope) -> str:
    """The teacher ends a response with an end token of the student."""
    return _server(scope).end()


def server_repeats(scope: Scope) -> str:
    """The server's scores of the same tokens repeat, over batches and replicas."""
    return _server(scope).repeats()


def server_agrees(scope: Scope) -> str:
    """The server's scores are those of the teacher in this process."""
    from cohobate.models.logprobs import score

    teacher = scope.loaded["teacher"]

    def local(row: TrainingSequence) -> list[float]:
        [score_here] = score(teacher.model, [row], scope.recipe.opd.tokens_per_batch, teacher.pad_id)
        logprobs: list[float] = score_here.logprobs.tolist()
        return logprobs

    return _server(scope).agrees(local)


def _server(scope: Scope) -> ScoringServer:
    server: ScoringServer = scope.loaded["server"]
    return server


def _scores(scope: Scope, model: Any) -> Any:
    """The scores of one short response, twice in a batch."""
    from cohobate.models.chat_template import question_ids, student_format
    from cohobate.models.logprobs import score
    from cohobate.models.sequence import TrainingSequence
    from cohobate.models.special_tokens import encode

    prompt = question_ids(model.tokenizer, "What is 2 + 3?", student_format(scope.recipe))
    response = encode(model.tokenizer, "2 + 3 = 5.\nAnswer: 5")
    rows = [TrainingSequence([*prompt, *response], len(prompt)) for _ in range(2)]
    return score(model.model, rows, scope.recipe.opd.tokens_per_batch, model.pad_id)
