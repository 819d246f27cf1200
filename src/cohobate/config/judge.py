"""The language model that judges answers, where the verifier is `judge`."""

from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field

from cohobate.config.models import Teacher
from cohobate.core.settings import EXECUTION, Memory, Positive, Share


def _must_judge(prompt: str) -> str:
    if "{question}" not in prompt or not ("{answer}" in prompt or "{response}" in prompt):
        raise ValueError("a judge's prompt must contain {question}, and {answer} or {response}")
    return prompt


class Judge(Teacher):
    """Which model judges, how it is reached (as a teacher is), and what it is asked. It answers at temperature 0."""

    section: ClassVar[str] = "triples.verifier.judge"
    limits_section: ClassVar[str] = "triples.verifier.judge"
    recorded: ClassVar[set[str]] = set()

    kind: Literal["local", "endpoint"] = "local"
    """local: in this process, through transformers. endpoint: an OpenAI-compatible server at `base_url`."""
    model: Annotated[str, EXECUTION]
    """As the teacher's: a Hugging Face folder or shipped name, or the name that the server knows it by."""
    prompt: Annotated[str, AfterValidator(_must_judge)] = (
        "Is this answer right?\n\nQuestion:\n{question}\n\nCorrect answer: {gold}\n\nReasoning that was "
        "given:\n{rationale}\n\nAnswer: {answer}\n\nThe answer is right if it means the same as the correct answer, "
        "or, where that is not known, if the reasoning is sound and the answer follows from it. Reply with +1 if the "
        "answer is right and with -1 if it is wrong, and with nothing else."
    )
    """The user message. {question}, {gold} ("not known" where there is none), {rationale}, {answer} ("none" where none
    was found), {response} (all that was answered) and {document} (the passage, for questions from documents) are
    replaced. The last line of the reply must be +1 or -1; anything else leaves the answer undecided, and so does -1 for
    a response without a final answer where the prompt has no {response}."""
    privileged: Annotated[None, EXECUTION] = None
    """Not for a judge: its prompt names all that it is shown."""
    follow: Annotated[None, EXECUTION] = None
    """Not for a judge."""
    max_tokens: Positive = 1024
    """Longest reply, thoughts included."""
    max_failures: Share = 0.1
    """Largest share of failed requests to publish with; the answers that they are about stay undecided."""
    batch_size: Memory = 64
    """local: replies generated at a time."""
    concurrency: Memory = 64
    """endpoint: most requests in flight."""
    timeout: Annotated[float, Field(gt=0), EXECUTION] = 600.0
    """endpoint: seconds until a request is given up and tried again."""
    attempts: Memory = 6
    """endpoint: how often a request that fails is tried."""
    max_wait: Annotated[float, Field(ge=0), EXECUTION] = 3600.0
    """endpoint: most seconds that a request waits because the server asks it to (a 429, or Retry-After); one that would
    wait for longer becomes a failure."""
