"""The recipe, and its sections on evaluation, report and machine."""

from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from cohobate.config.base import Experiment, RecipeName, SplitName
from cohobate.config.compare import Compare
from cohobate.config.curation import Curation
from cohobate.config.gate import Gate
from cohobate.config.models import Student, Teacher
from cohobate.config.nightly import Nightly
from cohobate.config.opd import Opd, Sft
from cohobate.config.questions import Fractions, Questions
from cohobate.config.recover import Recover
from cohobate.config.single import Single
from cohobate.config.suites import Harness, Suite
from cohobate.config.teachers import NamedTeacher, Route, refuse_unmixable, refuse_unroutable
from cohobate.config.tiny_policy import TinyPolicySettings
from cohobate.config.tracking import Tracking
from cohobate.config.triples import Triples
from cohobate.core.errors import RecipeError
from cohobate.core.settings import EXECUTION, Count, Memory, Positive, Section

SomeExperiment = TypeVar("SomeExperiment", bound=Experiment)


class Evaluation(Section):
    """How the students and the teacher are measured."""

    splits: Annotated[list[SplitName], Field(min_length=1)] = ["test", "hard"]
    """Splits of the questions."""
    decodings: Annotated[list[Literal["greedy", "sampled"]], Field(min_length=1)] = ["greedy", "sampled"]
    """greedy: one response; sampled: `samples` at `temperature`."""
    samples: Positive = 1
    """Responses per question when sampled."""
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
    sampler: Annotated[Literal["local", "vllm"], EXECUTION] = "local"
    """Where students and teacher are sampled for evaluation points, evaluation and suites. local: this process. vllm:
    an engine beside it; that of a student has the settings of opd.vllm, that of the teacher those of [teacher]."""


class Report(Section):
    """Contents of the report."""

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
    processes: Annotated[Positive, EXECUTION] = 1
    """Processes that train together, on a GPU each where there are any."""
    shard: Annotated[bool, EXECUTION] = False
    """Divide weights, gradients and optimizer state among the processes (FSDP2) instead of copying them to each."""
    device: Annotated[Literal["auto", "cpu", "cuda"], EXECUTION] = "auto"
    """auto: cuda where there is one."""


class Recipe(Section):
    """Everything that one distillation run is made from."""

    name: Annotated[RecipeName, EXECUTION] = "distill"
    """Names the artifacts' folders: at most 100 letters (a to z), digits, dots, hyphens and underscores. Unless set,
    the name of the file, with hyphens in place of spaces and other characters."""
    description: Annotated[str, EXECUTION] = ""
    """For people."""
    questions: Questions = Questions()
    teacher: Teacher = Teacher()
    """The one teacher. Of several, the first, where a stage asks what all of them have in common."""
    teachers: list[NamedTeacher] = []
    """Several teachers in place of the one; [route] says which question goes to which."""
    route: Route | None = None
    """Where each question goes, of several teachers."""
    student: Student = Student()
    triples: Triples = Triples()
    curation: Curation | None = None
    """The part of the triples that sft learns from; None: whatever sft.select takes of all of them."""
    sft: Sft = Sft()
    opd: Opd = Opd()
    evaluation: Evaluation = Evaluation()
    report: Report = Report()
    gate: Gate = Gate()
    nightly: Nightly = Nightly()
    compare: Compare | None = None
    """The methods of `cohobate compare`; no stage of a distillation reads it."""
    policy: TinyPolicySettings | None = None
    """The tiny policy of `cohobate policy`; no stage of a distillation reads it."""
    recover: Recover | None = None
    """The experiment of `cohobate recover`; no stage of a distillation reads it."""
    single: Single | None = None
    """The experiment of `cohobate single-prompt`; no stage of a distillation reads it."""
    suites: tuple[Suite, ...] = ()
    """Files of questions for `cohobate suites`."""
    harness: Harness | None = None
    """Tasks of lm-evaluation-harness for `cohobate suites`."""
    tracking: Annotated[Tracking, EXECUTION] = Tracking()
    """Experiment trackers that get the metrics too."""
    runtime: Runtime = Runtime()

    def section(self, kind: type[SomeExperiment]) -> SomeExperiment:
        """The section of an experiment. Raises RecipeError where the recipe has none."""
        value = getattr(self, kind.key)
        if not isinstance(value, kind):
            raise RecipeError(
                f"recipe {self.name} has no section [{kind.key}]; add one, or take the shipped recipe {kind.shipped}"
            )
        if self.teachers:
            raise RecipeError(f"the experiment [{kind.key}] is one with one teacher; write [teacher] for [[teachers]]")
        return value

    @property
    def by_teacher(self) -> dict[str, "Recipe"]:
        """The recipe with each of its teachers as the only one, by name; that of a single one is `teacher`.

        opd has no steps for a teacher outside opd.mixture, which writes triples alone.
        """
        if not self.teachers:
            return {"teacher": self}
        alone = {name: getattr(self, name) for name in type(self).model_fields if name not in ("teachers", "route")}
        opd = Opd.model_validate({**self.opd.model_dump(), "mixture": {}})
        unscored = Opd.model_validate({**self.opd.model_dump(), "mixture": {}, "steps": 0})
        scores = {each.name: opd if self._scores_rollouts(each) else unscored for each in self.teachers}
        recipes = (
            Recipe.model_validate({**alone, "teacher": each.settings, "opd": scores[each.name]})
            for each in self.teachers
        )
        return {each.name: recipe for each, recipe in zip(self.teachers, recipes, strict=True)}

    @property
    def scoring_teachers(self) -> dict[str, "Recipe"]:
        """Those of `by_teacher` that score rollouts: of a mixture the ones that it names."""
        mixed = self.opd.mixture
        return {name: own for name, own in self.by_teacher.items() if not mixed or name in mixed}

    def _scores_rollouts(self, teacher: NamedTeacher) -> bool:
        return not self.opd.mixture or teacher.name in self.opd.mixture

    @property
    def _scorers(self) -> list[Teacher]:
        """The teachers that score tokens where an objective asks for that."""
        return [each for each in self.teachers if self._scores_rollouts(each)] or [self.teacher]

    @property
    def _each_teacher(self) -> list[Teacher]:
        return [*self.teachers] or [self.teacher]

    def with_teacher_alone(self, name: str | None) -> "Recipe":
        """The recipe with one of its several teachers. Raises RecipeError for a name that none has."""
        if name is not None and self.teachers and name in self.by_teacher:
            return self.by_teacher[name]
        names = ", ".join(self.by_teacher) if self.teachers else "one, without a name"
        raise RecipeError(f"recipe {self.name} has no teacher '{name or ''}'; its teachers are: {names}")

    def label(self, teacher: str) -> str:
        """The name of a teacher of `by_teacher` in ledgers, scores and findings."""
        return f"teacher {teacher}" if self.teachers else "teacher"

    @model_serializer(mode="wrap")
    def _one_or_several(self, values_of: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """The sections of a recipe file: [teacher], or [[teachers]] with [route]."""
        values: dict[str, Any] = values_of(self)
        for name in ("teacher",) if self.teachers else ("teachers", "route"):
            values.pop(name, None)
        return values

    @model_validator(mode="before")
    @classmethod
    def _not_both(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("teachers") and "teacher" in values:
            raise ValueError("[teacher] is one teacher, and [[teachers]] are several; write one of the two")
        return values

    @model_validator(mode="after")
    def _several(self) -> Self:
        refuse_unroutable(self.teachers, self.route)
        refuse_unmixable(self.teachers, self.opd)
        if self.teachers:
            if self.questions.source == "documents":
                raise ValueError("several teachers answer questions, which documents are not yet; write [teacher]")
            if any(each.follow is not None or each.privileged is not None for each in self.teachers):
                raise ValueError("follow and privileged are for a teacher alone; write [teacher] for [[teachers]]")
            if self.sft.steps and self.sft.asks_teacher:
                raise ValueError(
                    f"sft.objective = '{self.sft.objective}' is scored by one teacher; write [teacher] for "
                    "[[teachers]], or let several score rollouts, by [opd]"
                )
            self.__dict__["teacher"] = self.teachers[0].settings
            if self.route is not None:
                self.__dict__["route"] = self.route.in_order_of([each.name for each in self.teachers])
        return self

    @model_validator(mode="before")
    @classmethod
    def _without_opd(cls, values: Any) -> Any:
        """Where nothing is said of the shares of a file, and nothing will roll out on its fresh questions, they are
        training questions.
        """
        if not isinstance(values, dict) or any(values.get(name) for name in ("compare", "policy", "recover", "single")):
            return values
        questions, triples, opd = (values.get(name, {}) for name in ("questions", "triples", "opd"))
        if not all(isinstance(section, dict) for section in (questions, triples, opd)):
            return values
        is_drawn = questions.get("source") == "file" and "split" not in questions
        if not is_drawn or opd.get("steps") != 0 or triples.get("split", "train") != "train":
            return values
        usual = Fractions()
        split = {**usual.model_dump(), "train": usual.train + usual.fresh, "fresh": 0.0}
        return {**values, "questions": {**questions, "split": split}}

    @model_validator(mode="after")
    def _one_format(self) -> Self:
        if self.sft.format == "plain" and self.opd.steps:
            raise ValueError(
                "sft.format = 'plain' cannot be followed by opd, since the teacher scores only its own chat "
                "format; set sft.format = 'chat' or opd.steps = 0"
            )
        return self

    @model_validator(mode="after")
    def _compared(self) -> Self:
        needed = self.sft.declared.samples_needed
        if self.sft.steps and self.triples.samples < needed:
            raise ValueError(
                f"sft.objective = '{self.sft.objective}' compares responses to one question, of which triples.samples "
                f"= {self.triples.samples} asks for too few; set triples.samples to {needed} or more"
            )
        return self

    @model_validator(mode="after")
    def _sampled_as_recorded(self) -> Self:
        recorded = {"temperature": 1.0, "top_p": 1.0, "top_k": 0}
        for name in (name for each in self._each_teacher for name in each.omit):
            value = getattr(self.triples, name, None)
            if name in recorded and value != recorded[name]:
                raise ValueError(
                    f"teacher.omit leaves out {name}, so the server would not know triples.{name} = {value}; leave "
                    f"triples.{name} at {recorded[name]}"
                )
        return self

    @model_validator(mode="after")
    def _fresh(self) -> Self:
        if self.questions.source == "documents" and self.opd.steps:
            raise ValueError("opd needs fresh questions, which documents do not give; set opd.steps = 0")
        return self

    @model_validator(mode="after")
    def _shown_where_there_is_something(self) -> Self:
        """What a privileged context names must be there where the tokens are scored."""
        context = self.teacher.privileged
        if context is None:
            return self
        scores_triples = bool(self.sft.steps and self.sft.asks_teacher)
        if scores_triples and self.sft.turns == "all":
            raise ValueError(
                "teacher.privileged is about the last turn of a conversation; set sft.turns = 'last', or drop it"
            )
        mixes = bool(self.opd.steps and self.opd.asks_teacher and self.opd.declared.on_policy_share < 1)
        if context.uses_feedback and (scores_triples or mixes):
            stage = "sft" if scores_triples else "opd"
            raise ValueError(
                f"teacher.privileged names {{feedback}}, the verdict on a rollout, but {stage}.objective = "
                f"'{getattr(self, stage).objective}' scores triples; choose another objective, or drop {{feedback}}"
            )
        return self

    @model_validator(mode="after")
    def _followed(self) -> Self:
        """A teacher that moves with the student scores each batch as it was when that was sampled."""
        share = self.teacher.follow
        for name, stage in (("sft", self.sft), ("opd", self.opd)):
            if share is None or not stage.steps or not stage.asks_teacher:
                continue
            if share and stage.lora is not None:
                raise ValueError(
                    f"teacher.follow = {share:g} averages weights, and averaged adapters are not the adapters of an "
                    f"averaged model; drop [{name}.lora], or set teacher.follow = 0"
                )
        if share and self.opd.steps and self.opd.asks_teacher:
            for key, value, fine in (("updates", self.opd.updates, 1), ("overlap", self.opd.overlap, False)):
                if value != fine:
                    raise ValueError(
                        f"teacher.follow = {share:g} moves the teacher with every update, and opd.{key} would learn "
                        f"from scores of an older one; set opd.{key} = {str(fine).lower()}, or teacher.follow = 0"
                    )
        return self

    @property
    def served_scores(self) -> bool:
        """Whether a server scores tokens in some stage."""
        by_server = any(each.scores_by_server for each in self._scorers)
        return by_server and any(part.steps and part.asks_teacher for part in (self.sft, self.opd))

    @model_validator(mode="after")
    def _scorable(self) -> Self:
        served = [each for each in self._scorers if each.scores_by_server]
        if not served:
            return self
        for name, stage in (("opd", self.opd), ("sft", self.sft)):
            if not stage.steps:
                continue
            if any(each.batch for each in served) and stage.asks_teacher:
                raise ValueError(
                    f"{name}.objective = '{stage.objective}' needs the teacher's scores at each step, which no batch "
                    f"gives; set {name}.steps = 0, or teacher.batch = false"
                )
            objective = f"{name}.objective = '{stage.objective}'"
            if stage.by_spans:
                raise ValueError(
                    f"{objective} scores spans of text, which needs a teacher in this process; set teacher.scoring = "
                    "'local'"
                )
            if stage.needs_distributions:
                ways = [stage.declared.for_server] if stage.declared.for_server else []
                if not ways and (others := type(stage).served()):
                    ways.append(f"{name}.objective = {' or '.join(map(repr, others))}")
                ways.append("teacher.scoring = 'local'" if served[0].is_folder else f"{name}.steps = 0")
                raise ValueError(
                    f"{objective} needs the teacher's whole distribution, of which a server gives only the likeliest "
                    f"tokens; set {', or '.join(ways)}"
                )
        return self
