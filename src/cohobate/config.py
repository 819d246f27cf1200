"""The recipe: one frozen object that says what a run makes. One section a stage.

Fields marked EXECUTION say how the work is done (memory, cadence, machine) and never what comes out: they are no
part of an artifact's identity. Every other field is.
"""

import re
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, model_validator


class _Execution:
    """Marks a field that cannot change the data."""


EXECUTION = _Execution()

Count = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, le=1)]
Memory = Annotated[int, Field(ge=1), EXECUTION]
StageName = Literal["questions", "triples", "sft", "opd", "evaluation", "report"]
SplitName = Literal["train", "fresh", "validation", "test", "hard"]


class Section(BaseModel):
    """A frozen part of a recipe; unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    def identity(self) -> dict[str, Any]:
        """What changes the data: all fields but those marked EXECUTION, as JSON values."""
        kept: dict[str, Any] = {}
        for name, field in type(self).model_fields.items():
            if EXECUTION in field.metadata:
                continue
            value = getattr(self, name)
            kept[name] = value.identity() if isinstance(value, Section) else value
        return kept


class Columns(Section):
    """The names that a questions file gives to its columns."""

    question: str = "question"
    """The question's text."""
    gold_answer: str = "gold_answer"
    """The right answer."""
    id: str | None = None
    """A unique name of the question; None: the hash of its text."""


class Fractions(Section):
    """Shares of a questions file, drawn by the hash of the question; they add up to 1."""

    train: Share = 0.4
    fresh: Share = 0.4
    validation: Share = 0.05
    test: Share = 0.15

    @model_validator(mode="after")
    def _add_up(self) -> Self:
        total = self.train + self.fresh + self.validation + self.test
        if abs(total - 1) > 1e-6:
            raise ValueError(f"the shares add up to {total:g}, not to 1")
        return self


class Questions(Section):
    """Where the questions come from: the embedded world, or a file."""

    source: Literal["world", "file"] = "world"
    """world: the generator that ships with cohobate. file: `path`."""
    path: Annotated[str | None, EXECUTION] = None
    """A .parquet, .jsonl or .csv file; its content, not its place, is what counts."""
    columns: Columns = Columns()
    """Column names of the file."""
    split: Fractions = Fractions()
    """Shares of the file's questions, unless it has a `split` column."""
    train: Count = 1500
    """World: questions that the teacher answers for SFT."""
    fresh: Count = 8000
    """World: questions for on-policy distillation, seen by nobody before."""
    validation: Count = 400
    """World: questions for evaluation points during training."""
    test: Count = 2000
    """World: held-out test questions."""
    hard: Count = 500
    """World: test questions with more operations than any in training."""
    min_depth: Positive = 2
    """World: fewest operations of a question."""
    max_depth: Positive = 4
    """World: most operations of a question."""
    hard_depth: tuple[Positive, Positive] = (5, 6)
    """World: fewest and most operations of a hard question."""
    story: Share = 0.3
    """World: share of questions told as a short story."""
    seed: int = 0
    """Seed of the draw, and of the split of a file."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.source == "file" and self.path is None:
            raise ValueError("source = 'file' needs a path")
        if self.source == "world" and self.path is not None:
            raise ValueError("path is set but source is 'world'; set source = 'file' or drop the path")
        if self.min_depth > self.max_depth:
            raise ValueError(f"min_depth {self.min_depth} is above max_depth {self.max_depth}")
        if self.source == "world" and self.hard and self.hard_depth[0] <= self.max_depth:
            raise ValueError("hard_depth must begin above max_depth: hard questions are out of range")
        return self


def _must_ask(prompt: str) -> str:
    if "{question}" not in prompt:
        raise ValueError("a prompt must contain {question}")
    return prompt


Prompt = Annotated[str, AfterValidator(_must_ask)]


def _no_secret(name: str | None) -> str | None:
    """The message never repeats the value: whoever makes this mistake has pasted a key."""
    if name is not None and not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
        raise ValueError("give the name of an environment variable that holds the key, not the key itself")
    return name


def _addresses(given: str | list[str] | None) -> str | list[str] | None:
    for url in [given] if isinstance(given, str) else given or []:
        parts = urlsplit(url)
        if parts.username or parts.password or parts.query:
            raise ValueError("an address must not carry a key; name the key's environment variable in api_key_env")
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"'{url}' is no address; write it as http://HOST:PORT/v1")
        if parts.path.rstrip("/").endswith("/completions"):
            raise ValueError(f"'{url}' is too long; end it before /chat/completions, usually with /v1")
    return given


class Teacher(Section):
    """The model that is distilled."""

    kind: Literal["local", "endpoint"] = "local"
    """local: in this process, through transformers. endpoint: an OpenAI-compatible server at `base_url`."""
    model: Annotated[str, EXECUTION] = "world/teacher"
    """local: a Hugging Face folder, or a shipped name; identified by the content of its files. endpoint: the name
    that the server knows it by; `provider`, this name and `revision` identify it, wherever it is served."""
    prompt: Prompt = "{question} Think step by step."
    """The user message; {question} is replaced."""
    system: str | None = None
    """A system message, if any."""
    base_url: Annotated[str | list[str] | None, AfterValidator(_addresses), EXECUTION] = None
    """endpoint: its address, up to /v1; or the addresses of several replicas, which share the work."""
    api_key_env: Annotated[str | None, AfterValidator(_no_secret), EXECUTION] = None
    """endpoint: name of the environment variable that holds the key."""
    provider: str | None = None
    """endpoint: who serves it, in your words: the same name at another provider is another teacher."""
    revision: str | None = None
    """endpoint: which version of the model, in your words."""
    served_as: str | None = None
    """endpoint: the model name that its responses carry, where that is another than `model`."""
    extra: dict[str, JsonValue] = {}
    """endpoint: further parameters of each request, such as reasoning_effort, response_format, min_p."""
    limit_name: Annotated[Literal["max_tokens", "max_completion_tokens"], EXECUTION] = "max_tokens"
    """endpoint: what it calls the limit of a response."""
    price_input: Annotated[float | None, Field(ge=0), EXECUTION] = None
    """endpoint: USD per million prompt tokens; an artifact keeps the costs it was made with."""
    price_output: Annotated[float | None, Field(ge=0), EXECUTION] = None
    """endpoint: USD per million completion tokens, reasoning included."""

    @property
    def base_urls(self) -> list[str]:
        """The addresses, one a replica."""
        return [self.base_url] if isinstance(self.base_url, str) else self.base_url or []

    @model_validator(mode="after")
    def _reachable(self) -> Self:
        if self.kind == "local" and (self.base_url or self.api_key_env):
            raise ValueError("base_url and api_key_env belong to an endpoint; set kind = 'endpoint'")
        if self.kind == "endpoint" and not self.base_urls:
            raise ValueError("kind = 'endpoint' needs base_url, such as http://localhost:8000/v1")
        if self.kind == "endpoint" and "model" not in self.model_fields_set:
            raise ValueError("kind = 'endpoint' needs model, the name that the server knows it by")
        if (self.price_input is None) != (self.price_output is None):
            raise ValueError("price_input and price_output belong together; give both, 0 for what is free")
        return self


class Student(Section):
    """The model that learns."""

    model: Annotated[str, EXECUTION] = "world/base"
    """A Hugging Face folder, or a shipped name; identified by the content of its files."""
    prompt: Prompt = "{question}"
    """The user message; {question} is replaced."""
    system: str | None = None
    """A system message, if any."""


class Triples(Section):
    """How the teacher answers the training questions."""

    samples: Positive = 1
    """Responses a question."""
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
    batch_size: Memory = 256
    """local: responses generated at a time; also the unit of what a kill can lose."""
    concurrency: Memory = 64
    """endpoint: most requests in flight; fewer while it refuses."""
    timeout: Annotated[float, Field(gt=0), EXECUTION] = 600.0
    """endpoint: seconds until a request is given up and tried again."""
    attempts: Memory = 6
    """endpoint: how often a request that fails is tried before it becomes a failure."""
    max_failures: Share = 0.1
    """endpoint: largest share of failed requests to publish with; they are recorded beside the triples."""

    @model_validator(mode="after")
    def _varied(self) -> Self:
        if self.temperature == 0 and self.samples > 1:
            raise ValueError("samples > 1 at temperature 0 gives the same response again and again")
        return self


class Training(Section):
    """What every training stage needs."""

    steps: Count = 200
    """Optimizer steps; 0 passes the student on as it is."""
    lr: Annotated[float, Field(gt=0)] = 1e-3
    """Peak learning rate of AdamW."""
    min_lr_ratio: Share = 0.05
    """Learning rate at the end, as a share of the peak."""
    warmup: Count = 10
    """Steps of linear warm-up."""
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    """How the learning rate falls after the warm-up."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    """Of AdamW, on matrices only."""
    clip: Annotated[float, Field(gt=0)] = 1.0
    """Largest gradient norm."""
    seed: int = 0
    """Seed of order and noise."""
    evaluate_every: Positive = 50
    """Steps between evaluation points on the validation split."""
    evaluate_questions: Count = 200
    """Validation questions of an evaluation point."""
    snapshot_every: Memory = 20
    """Steps between snapshots: what a kill makes the run replay."""
    tokens_per_batch: Memory = 2048
    """Padded tokens that pass through the model at a time (gradient accumulation)."""

    @model_validator(mode="after")
    def _warms_up_in_time(self) -> Self:
        if self.steps and self.warmup > self.steps:
            raise ValueError(f"warmup {self.warmup} is longer than the {self.steps} steps")
        return self


class Sft(Training):
    """Supervised fine-tuning of the student on the triples."""

    format: Literal["chat", "plain"] = "chat"
    """chat: the model's template, loss on the completion. plain: question<sep>rationale<sep>answer, loss on all."""
    separator: str = " ### "
    """Between the parts of a plain sequence."""
    select: Literal["all", "correct", "shortest_correct"] = "correct"
    """Which triples are learnt: every one, the verified ones, or the shortest verified one of each question."""
    batch: Positive = 64
    """Sequences a step."""


class Opd(Training):
    """On-policy distillation: the student rolls out, the teacher scores every token."""

    objective: Literal["exact", "sampled"] = "exact"
    """exact: reverse KL over the whole vocabulary. sampled: policy gradient on the sampled tokens."""
    prompts: Positive = 64
    """Questions a step, from the fresh split."""
    group: Positive = 2
    """Rollouts a question."""
    max_tokens: Positive = 128
    """Longest rollout; a truncated one is learnt from too."""
    temperature: float = 1.0
    """Of the rollouts; only 1 is on-policy."""
    importance_cap: Annotated[float, Field(ge=1)] = 2.0
    """sampled: largest importance weight."""
    advantage_clip: Annotated[float, Field(gt=0)] | None = 10.0
    """sampled: bound of the advantage in nats; None is off."""

    @model_validator(mode="after")
    def _on_policy(self) -> Self:
        if self.temperature != 1:
            raise ValueError(
                f"temperature is {self.temperature:g}, but rollouts must be drawn at 1: "
                "at any other the log-probabilities of sampler and trainer disagree"
            )
        return self


class Evaluation(Section):
    """How the students and the teacher are measured."""

    splits: Annotated[list[SplitName], Field(min_length=1)] = ["test", "hard"]
    """Splits of the questions."""
    decodings: Annotated[list[Literal["greedy", "sampled"]], Field(min_length=1)] = ["greedy", "sampled"]
    """greedy: one response; sampled: `samples` at `temperature`."""
    samples: Positive = 1
    """Responses a question when sampled."""
    temperature: Annotated[float, Field(gt=0)] = 1.0
    """Of the sampled decoding."""
    max_tokens: Positive = 128
    """Longest response."""
    limit: Positive | None = None
    """Questions of each split; None: all."""
    seed: int = 0
    """Seed of the sampling noise."""
    batch_size: Memory = 256
    """Responses generated at a time."""


class Report(Section):
    """What the report shows."""

    title: str | None = None
    """Headline; None: the recipe's name."""
    questions: Count = 6
    """Test questions whose answers stand side by side."""
    rollouts: Count = 3
    """Rollouts shaded by the teacher's disagreement."""
    seed: int = 0
    """Which questions and rollouts are shown."""


class Runtime(Section):
    """Where and how it runs; nothing here changes the data."""

    threads: Annotated[Positive | None, EXECUTION] = None
    """CPU threads of torch; None: OMP_NUM_THREADS, or else as many as cores."""
    device: Annotated[Literal["auto", "cpu", "cuda"], EXECUTION] = "auto"
    """auto: cuda where there is one."""


class Recipe(Section):
    """Everything that one distillation run is made from."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._]*$"), EXECUTION] = "distill"
    """Names the artifacts' folders; the file's name unless set."""
    description: Annotated[str, EXECUTION] = ""
    """For people."""
    questions: Questions = Questions()
    teacher: Teacher = Teacher()
    student: Student = Student()
    triples: Triples = Triples()
    sft: Sft = Sft()
    opd: Opd = Opd()
    evaluation: Evaluation = Evaluation()
    report: Report = Report()
    runtime: Runtime = Runtime()

    @model_validator(mode="after")
    def _one_format(self) -> Self:
        if self.sft.format == "plain" and self.opd.steps:
            raise ValueError(
                "sft.format = 'plain' cannot be followed by opd, since the teacher scores only its own chat "
                "format; set sft.format = 'chat' or opd.steps = 0"
            )
        return self

    @model_validator(mode="after")
    def _scorable(self) -> Self:
        if self.teacher.kind == "endpoint" and self.opd.steps:
            raise ValueError(
                "opd needs a teacher that scores tokens, which one behind an endpoint does not; set opd.steps = 0"
            )
        return self
