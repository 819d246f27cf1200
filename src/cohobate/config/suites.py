"""Further measures of a finished model: files of questions, and tasks of lm-evaluation-harness."""

from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from cohobate.config.questions import Columns
from cohobate.core.settings import EXECUTION, Count, Memory, Positive, Section


class Suite(Section):
    """Questions with gold answers, each answered several times: avg@k and pass@k with intervals."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    """Its name in the table, such as aime24."""
    path: Annotated[str, EXECUTION]
    """A questions file as questions.path takes it; all of it is asked. Its content counts, not its place."""
    columns: Columns = Columns()
    """Names of its columns."""
    gold_after: str | None = None
    """The gold answer is what stands after the last of these marks."""
    system: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)] | None = None
    """A system message for every question that brings none of its own, as questions.system."""
    unsupported: Literal["refuse", "drop"] = "refuse"
    """Treatment of a question that is more than text, as questions.unsupported."""
    samples: Positive = 16
    """k: responses per question."""
    temperature: Annotated[float, Field(ge=0)] = 0.6
    """0 is greedy, for which one sample is enough."""
    top_p: Annotated[float, Field(gt=0, le=1)] = 0.95
    """Nucleus sampling; 1 is off."""
    top_k: Count = 0
    """Sample among the k likeliest tokens; 0 is off."""
    max_tokens: Positive = 4096
    """Longest response."""
    seed: int = 0
    """Seed of the sampling noise."""

    def identity(self) -> dict[str, Any]:
        values = super().identity()
        for name in ("system", "unsupported"):  # they change the questions, whose content is identified beside
            del values[name]
        return values


class Harness(Section):
    """Tasks of lm-evaluation-harness (the extra `suites`), run on the model through transformers."""

    tasks: Annotated[tuple[str, ...], Field(min_length=1)]
    """Names of tasks, such as gsm8k or ifeval."""
    include: Annotated[str | None, EXECUTION] = None
    """A folder with task files of your own; its content counts. None: the tasks that the harness ships."""
    fewshot: Count | None = None
    """Examples before each question; None: as the task says."""
    limit: Positive | None = None
    """Questions of each task; None: all."""
    chat: bool = True
    """Put the questions through the model's chat template."""
    batch_size: Memory = 8
    """Questions answered at a time."""
