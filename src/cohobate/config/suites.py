"""Further measures of a finished model: files of questions, and tasks of lm-evaluation-harness."""

from typing import Annotated

from pydantic import Field

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
