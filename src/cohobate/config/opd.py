"""The two stages that train the student, and the settings of their objectives."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from cohobate.config.training import Training
from cohobate.core.settings import EXECUTION, Positive, Section, Share

Weight = Annotated[float, Field(ge=0)]


class LogitKd(Section):
    """Logit distillation: the teacher's distribution over each token of its own text."""

    top_k: Positive | None = None
    """The teacher's k likeliest tokens and a bucket for the rest; None: its whole vocabulary."""
    temperature: Annotated[float, Field(gt=0)] = 1.0
    """Of both distributions."""
    alpha: Share = 1.0
    """Share of the KL; the rest is cross-entropy."""


class Sft(Training):
    """Supervised fine-tuning of the student on the triples."""

    objective: Literal["cross_entropy", "logit_kd"] = "cross_entropy"
    """cross_entropy: the teacher's tokens. logit_kd: the teacher's whole distribution at each of them."""
    logit_kd: LogitKd = LogitKd()
    """Settings of that objective."""
    format: Literal["chat", "plain"] = "chat"
    """chat: the model's template, loss on the completion. plain: question<sep>rationale<sep>answer, loss on all."""
    separator: str = " ### "
    """Between the parts of a plain sequence."""
    select: Literal["all", "correct", "first_correct", "shortest_correct"] = "correct"
    """Which triples are learnt: every one, the verified ones, or the first or shortest verified one of a question."""
    batch: Positive = 64
    """Sequences a step."""

    def identity(self) -> dict[str, Any]:
        """The settings of another objective change nothing."""
        return _only(super().identity(), self.objective, {"logit_kd"})

    @property
    def asks_teacher(self) -> bool:
        """Whether a teacher scores the triples."""
        return self.objective == "logit_kd"

    @property
    def needs_whole(self) -> bool:
        """Whether it needs the teacher's whole distribution."""
        return self.asks_teacher and self.logit_kd.top_k is None

    @property
    def teacher_top_k(self) -> int:
        """How many of the teacher's likeliest tokens it needs."""
        return (self.logit_kd.top_k or 0) if self.asks_teacher else 0

    @model_validator(mode="after")
    def _scorable(self) -> Self:
        if self.objective == "logit_kd" and self.format == "plain":
            raise ValueError("objective = 'logit_kd' needs format = 'chat', which is what the teacher can score")
        return self


class Sampled(Section):
    """Policy gradient on the sampled tokens."""

    discount: Share = 0.0
    """How much of the reward of later tokens counts for a token."""
    control_variate: Positive | None = None
    """Less variance by the KL on the teacher's k likeliest tokens; None: none."""
    spans: bool = False
    """For a teacher in this process with another tokenizer: it scores the text, and each token's reward is that of the
    smallest span of text at whose ends both tokenizers have a boundary."""

    @model_validator(mode="after")
    def _one_reward(self) -> Self:
        if self.spans and (self.discount or self.control_variate):
            raise ValueError(
                "spans has neither discount nor control_variate, which need the teacher's tokens; drop them"
            )
        return self


class TopK(Section):
    """KL on the teacher's k likeliest tokens and a bucket for the rest."""

    k: Positive = 16
    """Tokens."""
    direction: Literal["reverse", "forward"] = "reverse"
    """reverse: KL(student || teacher). forward: KL(teacher || student)."""


class Gkd(Section):
    """Generalised knowledge distillation."""

    beta: Share = 0.5
    """0: forward KL. 1: reverse KL. Between: the generalised Jensen-Shannon divergence."""
    on_policy: Share = 1.0
    """Share of the steps that learn from rollouts; the others learn from the triples."""


class Grpo(Section):
    """Group-relative policy optimisation with the verdict, 1 or 0, as reward."""

    clip_low: Annotated[float, Field(ge=0, lt=1)] = 0.2
    """How far the probability ratio may fall below 1."""
    clip_high: Weight = 0.28
    """How far it may rise above 1."""
    baseline: Literal["mean", "leave_one_out"] = "mean"
    """What a reward is held against: the group's mean, or that of the others."""
    by_std: bool = False
    """Divide the advantages by the group's standard deviation."""
    lengths: Literal["tokens", "responses", "constant"] = "tokens"
    """tokens: each token of a step counts the same. responses: each response. constant: a response's sum, divided by
    max_tokens whatever its length."""
    teacher: Weight = 0.0
    """Weight of the teacher's log q - log p, added to the advantage."""


class Ghost(Section):
    """Ghost-response policy optimisation."""

    source: Literal["teacher", "own", "triples", "gold"] = "teacher"
    """teacher: what the teacher would say next to the student's own prefix. own: the student's shortest right answer
    of the group, for its wrong ones. triples: the teacher's response, on the questions of the triples. gold: the
    response that somebody wrote (questions.columns.gold_response), on the fresh questions that have one."""
    entropy_bonus: Weight = 0.0
    """In nats of reward for a nat of entropy."""


class Judged(Section):
    """REINFORCE with the verdict, +1 or -1, as reward; triples.verifier = "judge" makes that a language model's."""

    leave_one_out: bool = True
    """Hold each reward against the mean of the others of its group."""
    lock_in: Weight = 2.0
    """Weight of the cross-entropy on the rollouts that were rewarded."""


class StudentEngine(Section):
    """The vLLM engine of the student."""

    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Precision of weights and activations; auto: float32 on a CPU, bfloat16 on a GPU."""
    gpu_memory: Annotated[float, Field(gt=0, le=1)] = 0.4
    """Share of a GPU's memory that it takes; the rest is the trainer's."""
    max_length: Positive | None = None
    """Most tokens of prompt and response together; a smaller one needs less memory. None: the model's."""
    tensor_parallel: Positive = 1
    """GPUs that share the model."""
    sleep: bool = False
    """Give the GPU's memory back while the student is trained; then gpu_memory may be large. A CPU cannot."""


class Opd(Training):
    """On-policy distillation: the student rolls out, and learns from what the teacher or a reward says to that."""

    objective: Literal["exact", "sampled", "topk", "gkd", "grpo", "ghost", "judge"] = "exact"
    """exact: reverse KL over the whole vocabulary. sampled: policy gradient on the sampled tokens. topk: KL on the
    teacher's likeliest tokens. gkd: forward, reverse or Jensen-Shannon KL, on and off policy. grpo: verifiable reward,
    without or with the teacher. ghost: the tokens of a better response. judge: +1 or -1 from the verifier."""
    sampled: Sampled = Sampled()
    topk: TopK = TopK()
    gkd: Gkd = Gkd()
    grpo: Grpo = Grpo()
    ghost: Ghost = Ghost()
    judge: Judged = Judged()
    prompts: Positive = 64
    """Questions a step, from the fresh split."""
    group: Positive = 2
    """Rollouts a question."""
    sampler: Annotated[Literal["local", "vllm"], EXECUTION] = "local"
    """Who samples the rollouts. local: this process. vllm: an engine beside it, which gets the new weights before each
    batch of rollouts."""
    vllm: Annotated[StudentEngine, EXECUTION] = StudentEngine()
    """Settings of that engine."""
    overlap: bool = False
    """Sample, score and judge the rollouts of the next step while the student learns from this one's: they are one step
    off-policy, never more. Faster where another device, an engine or a server does that work; the local sampler keeps
    a copy of the weights for it."""
    max_tokens: Positive = 128
    """Longest rollout; a truncated one is learnt from too."""
    train_tokens: Positive | None = None
    """Learn only from so many first tokens of each rollout; None: all."""
    updates: Positive = 1
    """Optimizer steps on each batch of rollouts."""
    temperature: float = 1.0
    """Of the rollouts; only 1 is on-policy."""
    importance_cap: Annotated[float, Field(ge=1)] = 2.0
    """Largest importance weight of the policy-gradient objectives."""
    advantage_clip: Annotated[float, Field(gt=0)] | None = 10.0
    """sampled: bound of the advantage in nats; None is off."""

    def identity(self) -> dict[str, Any]:
        """The settings of other objectives change nothing."""
        return _only(super().identity(), self.objective, {"sampled", "topk", "gkd", "grpo", "ghost", "judge"})

    @property
    def asks_teacher(self) -> bool:
        """Whether a teacher scores the rollouts."""
        if self.objective == "grpo":
            return self.grpo.teacher > 0
        return self.objective != "judge" and (self.objective != "ghost" or self.ghost.source == "teacher")

    @property
    def by_spans(self) -> bool:
        """Whether the teacher scores spans of text instead of tokens."""
        return self.objective == "sampled" and self.sampled.spans

    @property
    def needs_whole(self) -> bool:
        """Whether it needs the teacher's whole distribution."""
        return self.objective in ("exact", "gkd")

    @property
    def teacher_top_k(self) -> int:
        """How many of the teacher's likeliest tokens it needs."""
        ghosts = self.objective == "ghost" and self.ghost.source == "teacher"
        of = {"topk": self.topk.k, "sampled": self.sampled.control_variate or 0, "ghost": int(ghosts)}
        return of.get(self.objective, 0)

    @property
    def is_rewarded(self) -> bool:
        """Whether a verifier judges the rollouts."""
        return self.objective in ("grpo", "judge") or (self.objective == "ghost" and self.ghost.source == "own")

    @property
    def uses_triples(self) -> bool:
        """Whether it learns from the triples too."""
        on_triples = self.objective == "ghost" and self.ghost.source == "triples"
        return on_triples or (self.objective == "gkd" and self.gkd.on_policy < 1)

    @model_validator(mode="after")
    def _on_policy(self) -> Self:
        if self.temperature != 1:
            raise ValueError(
                f"temperature is {self.temperature:g}, but rollouts must be drawn at 1: "
                "at any other the log-probabilities of sampler and trainer disagree"
            )
        return self

    @model_validator(mode="after")
    def _one_step_off_policy(self) -> Self:
        refused = {
            "updates": (self.updates > 1, "rollouts would be more than one step off-policy; set it to 1"),
            "sampled.discount": (
                self.objective == "sampled" and self.sampled.discount > 0,
                "the importance weight of a token does not correct the later ones that its reward counts; set it to 0",
            ),
            "sampled.spans": (
                self.by_spans,
                "the reward of a span is not computed anew for the student that learns; set it to false",
            ),
            "gkd.on_policy": (
                self.objective == "gkd" and self.gkd.on_policy < 1,
                "the step after a rollout may be one that needs none; set it to 1",
            ),
            "vllm.sleep": (
                self.sampler == "vllm" and self.vllm.sleep,
                "the engine cannot give its memory back while it samples; set it to false",
            ),
        }
        for name, (given, why) in refused.items():
            if self.overlap and given:
                raise ValueError(f"overlap does not go with this {name}: {why}, or overlap to false")
        return self

    @model_validator(mode="after")
    def _grouped(self) -> Self:
        alone = self.objective == "judge" and not self.judge.leave_one_out
        if self.steps and self.group < 2 and self.is_rewarded and not alone:
            raise ValueError(f"objective = '{self.objective}' compares rollouts of a question; set group to 2 or more")
        return self


def _only(identity: dict[str, Any], objective: str, sections: set[str]) -> dict[str, Any]:
    """`identity` without the sections of the objectives that are not used."""
    return {name: value for name, value in identity.items() if name == objective or name not in sections}
