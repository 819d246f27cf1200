"""How the teacher answers, and how its answers are judged."""

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from cohobate import VERIFIER_ENTRY_POINTS
from cohobate.config.judge import Judge
from cohobate.core import plug_ins
from cohobate.core.settings import EXECUTION, Count, Memory, Positive, Section, Share

VERIFIERS = ("exact", "numeric", "math", "phrase", "checks", "judge")


def _known_verifier(name: str) -> str:
    return plug_ins.function_name(VERIFIER_ENTRY_POINTS, name, VERIFIERS, "verifier")


class Verification(Section):
    """How answers are judged; `verifier = "math"` is short for a section with this name."""

    name: Annotated[str, AfterValidator(_known_verifier)] = "exact"
    """exact: the same text but for case, spaces, $ and thousands separators. numeric: the same number. math: equal by
    mathematics. phrase: the gold answer as whole words in the final statement. checks: the gold answer is a JSON object
    of checks of the response, or else a phrase. judge: a language model says +1 or -1. module:function, or the name of
    an installed package's entry point in cohobate.verifiers: your own, called with the keywords answer, gold, question
    and response; it returns True, False or None (undecided), alone or in a pair with the reason."""
    judge: Judge | None = None
    """judge: which model, and what it is asked."""
    tolerance: Annotated[float, Field(ge=0, lt=1)] = 1e-6
    """numeric: largest relative difference; two integers must be equal."""
    seconds: Annotated[float, Field(gt=0, le=3600)] = 5.0
    """math and your own: processor time of an answer; one that takes longer stays undecided."""
    majority: bool = False
    """Where a question has no gold answer, take the one that more than half of its samples (at least two) give."""
    workers: Annotated[Positive | None, EXECUTION] = None
    """math and your own: processes; None: one a processor."""

    @model_validator(mode="before")
    @classmethod
    def _by_name(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    @property
    def is_function(self) -> bool:
        """Whether it is a function of the user."""
        return self.name not in VERIFIERS

    @property
    def needs_no_gold(self) -> bool:
        """Whether it decides without a gold answer too."""
        return self.is_function or self.name == "judge"

    @property
    def takes_time(self) -> bool:
        """Whether it runs in processes of its own, since it may hang or crash, or asks a model."""
        return self.name not in ("exact", "numeric", "phrase", "checks")

    @model_validator(mode="after")
    def _has_judge(self) -> Self:
        if self.name == "judge" and self.judge is None:
            raise ValueError("the verifier judge needs a model; set triples.verifier.judge.model, and kind or base_url")
        return self


class Triples(Section):
    """How the teacher answers the training questions."""

    split: Literal["train", "fresh"] = "train"
    """Which questions it answers. fresh: those that on-policy training rolls out on, to learn them off-policy."""
    limit: Positive | None = None
    """Answer only so many first questions of the split; None: all."""
    samples: Positive = 1
    """Responses per question."""
    temperature: Annotated[float, Field(ge=0)] = 1.0
    """0 is greedy."""
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Nucleus sampling; 1 is off."""
    top_k: Count = 0
    """Sample among the k likeliest tokens; 0 is off."""
    max_tokens: Positive = 128
    """Longest response; a longer one is cut and marked truncated."""
    seed: int = 0
    """Seed of the sampling noise."""
    without_gold: Literal["ask", "skip"] = "ask"
    """skip: do not ask (and pay for) training questions whose gold answer is missing or a word such as `proof`."""
    verifier: Verification = Verification()
    """Judges the answers of the teacher, and those of the students."""
    batch_size: Memory = 256
    """local, vllm: responses generated at a time; also what a kill can lose (vllm: twice as many)."""
    concurrency: Memory = 64
    """endpoint: most requests in flight; fewer while it refuses."""
    timeout: Annotated[float, Field(gt=0), EXECUTION] = 600.0
    """endpoint: seconds until a request is given up and tried again; also how long a server that has answered may be
    away, as to be started again."""
    attempts: Memory = 6
    """endpoint: how often a request that fails is tried before it becomes a failure."""
    max_wait: Annotated[float, Field(ge=0), EXECUTION] = 3600.0
    """endpoint: most seconds that a request waits because the server asks it to (a 429, or Retry-After); one that would
    wait for longer becomes a failure."""
    max_failures: Share = 0.1
    """endpoint: largest share of failed requests, of those that a run sends, to publish with; they are recorded beside
    the triples. Requests that failed in an earlier dataset of the recipe do not count."""

    @model_validator(mode="after")
    def _varied(self) -> Self:
        if self.temperature == 0 and self.samples > 1:
            raise ValueError("samples > 1 at temperature 0 gives the same response again and again")
        return self
