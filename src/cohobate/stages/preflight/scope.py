"""Input and output of a preflight check: the scope of all checks, and a finding, perhaps with a loaded value."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, Literal

from cohobate.config import Judge, Recipe

Role = Literal["teacher", "student"]
BOTH: tuple[Role, ...] = ("teacher", "student")


# Training takes four to ten times the weights: what is below this share of the memory needs no estimate.
_SMALL = 100


@dataclass(frozen=True)
class Loaded:
    """A finding with the value that later checks need."""

    detail: str
    value: Any


@dataclass(frozen=True)
class Scope:
    """The subject of the checks.

    roles: the models that are checked. ask: an endpoint may be sent a request, which it may charge for, and an engine
    or a server may be started. loaded: the values that checks gave, by need. stack: closed after the last check.
    others: where the recipe has several teachers, the scopes of the checks of each.
    """

    recipe: Recipe
    roles: tuple[Role, ...]
    ask: bool
    stack: ExitStack = field(default_factory=ExitStack)
    loaded: dict[str, Any] = field(default_factory=dict)
    others: tuple[Scope, ...] = ()

    @property
    def models(self) -> dict[Role, Any]:
        """The loaded models by role; of a teacher that runs elsewhere only the outline."""
        return {role: self.loaded[role] for role in BOTH if role in self.loaded}

    @property
    def teachers(self) -> list[Any]:
        """The loaded teachers, of several or of one."""
        return [scope.loaded["teacher"] for scope in self.others or (self,) if "teacher" in scope.loaded]

    def curates(self) -> bool:
        return self.recipe.curation is not None

    def reads_questions(self) -> bool:
        """Whether questions are looked at: of a file, or where they must have what is shown or routed by; a run does so
        itself.
        """
        routed = self.recipe.route is not None and self.recipe.route.column is not None
        return self.ask and (self.recipe.questions.has_rows or self.recipe.teacher.privileged is not None or routed)

    def tracks(self) -> bool:
        """Whether trackers get the metrics."""
        return bool(self.recipe.tracking.to)

    def has_student(self) -> bool:
        return "student" in self.roles

    def may_be_too_large(self) -> bool:
        """Whether the student takes a part of the memory that is worth a look."""
        from cohobate.models.precision import device_memory

        if "student" not in self.loaded:
            return False
        student = self.loaded["student"]
        weights = sum(p.numel() * p.element_size() for p in student.model.parameters())
        return bool(weights > device_memory(student.device.type) / _SMALL)

    def samples_with_vllm(self) -> bool:
        """Whether vLLM samples the student, in rollouts or in evaluation."""
        rolls_out = bool(self.recipe.opd.steps) and self.recipe.opd.sampler == "vllm"
        return self.has_student() and (rolls_out or self.recipe.evaluation.sampler == "vllm")

    def evaluates_teacher_with_vllm(self) -> bool:
        """Whether vLLM samples the teacher in evaluation alone; one that answers by it is tried when it starts."""
        teacher = self.recipe.teacher
        evaluated = self.has_student() and self.recipe.evaluation.sampler == "vllm"
        return evaluated and "teacher" in self.roles and teacher.is_folder and not teacher.uses_engine

    def samples_here(self, role: Role) -> bool:
        """Whether the sampler of this process samples the model in answers, rollouts or evaluation."""
        recipe = self.recipe
        if recipe.evaluation.sampler == "local":
            return role == "student" or recipe.teacher.is_folder
        if role == "student":
            return bool(recipe.opd.steps) and recipe.opd.sampler == "local"
        return recipe.teacher.is_folder and not recipe.teacher.uses_engine

    def asks_endpoint(self) -> bool:
        return "teacher" in self.roles and self.recipe.teacher.is_endpoint and self.ask

    def asks_batches(self) -> bool:
        return self.asks_endpoint() and self.recipe.teacher.batch

    def asks_engine(self) -> bool:
        return "teacher" in self.roles and self.recipe.teacher.uses_engine and self.ask

    def needs_vllm(self) -> bool:
        """Whether vLLM generates the teacher's responses, samples it in evaluation, or must serve its scores."""
        generates = self.recipe.teacher.uses_engine and (self.ask or self.generates_only())
        samples = generates or self.evaluates_teacher_with_vllm()
        return "teacher" in self.roles and (samples or (self.has_served_scores() and self.needs_server()))

    def generates_only(self) -> bool:
        """Whether an engine generates, and nothing else needs the teacher's weights."""
        return self.recipe.teacher.uses_engine and not self.has_student()

    def reads_teacher(self) -> bool:
        """Whether the teacher is a folder of this machine."""
        return "teacher" in self.roles and self.recipe.teacher.is_folder

    def outlines_teacher(self) -> bool:
        """Whether the teacher's weights stay on disk, since an engine or a server loads them."""
        return self.generates_only() or (self.has_served_scores() and not self.ask)

    def reads_a_model(self) -> bool:
        return self.reads_teacher() or self.has_student()

    def has_scores(self) -> bool:
        """Whether the recipe's training needs a teacher's scores."""
        opd, sft = self.recipe.opd, self.recipe.sft
        return bool((opd.steps and opd.asks_teacher) or (sft.steps and sft.asks_teacher))

    def has_served_scores(self) -> bool:
        return self.has_scores() and self.recipe.teacher.scores_by_server

    def needs_server(self) -> bool:
        """Whether a server must be started, since the recipe names none."""
        return not self.recipe.teacher.base_urls

    def trains_on_scores(self) -> bool:
        return self.has_student() and self.has_scores()

    def compares_tokenizers(self) -> bool:
        """Whether another model than the student scores its tokens."""
        return self.trains_on_scores() and self.reads_teacher() and self.recipe.teacher.follow is None

    def shows_more(self) -> bool:
        """Whether the teacher that scores is shown more than the student."""
        return self.trains_on_scores() and self.recipe.teacher.privileged is not None

    def scores_here(self) -> bool:
        return self.compares_tokenizers() and not self.has_served_scores()

    def adapts(self) -> bool:
        """Whether the student learns by LoRA adapters."""
        opd, sft = self.recipe.opd, self.recipe.sft
        return self.has_student() and bool((opd.steps and opd.lora) or (sft.steps and sft.lora))

    def compares_ends(self) -> bool:
        """Whether the student learns on its own text from a teacher here that reads the same tokens."""
        opd = self.recipe.opd
        return self.scores_here() and bool(opd.steps) and opd.asks_teacher and not opd.by_spans

    def starts_server(self) -> bool:
        return self.asks_server() and self.needs_server()

    def asks_server(self) -> bool:
        return self.has_student() and self.has_served_scores() and self.ask

    def compares_server(self) -> bool:
        """Whether a server's scores can be compared with those of the same model here."""
        return self.asks_server() and self.reads_teacher()

    def judge(self) -> Judge | None:
        """The judge that verifies, if requests are allowed."""
        verifier = self.recipe.triples.verifier
        return verifier.judge if verifier.name == "judge" and self.ask else None

    def asks_judge(self) -> bool:
        return self.judge() is not None

    def asks_judge_endpoint(self) -> bool:
        judge = self.judge()
        return judge is not None and judge.is_endpoint
