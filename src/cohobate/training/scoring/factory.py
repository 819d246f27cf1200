"""Who scores tokens for a stage that trains: a model in this process, or a server."""

from __future__ import annotations

from pathlib import Path

from cohobate.config import Opd, Recipe, Training
from cohobate.models.chat_template import teacher_format
from cohobate.models.loading import LoadedModel, load, outline, refuse_mismatch
from cohobate.models.token_loss import Head
from cohobate.teachers.endpoint.scoring_checks import require_scores
from cohobate.training.distributed import World
from cohobate.training.scoring.cross_tokenizer import SpanScores, refuse_other_text
from cohobate.training.scoring.local import Needs, Scores, TeacherScores
from cohobate.training.scoring.server import ServedScores


class Scorer:
    """The teacher of `recipe` for a stage with the settings `config`.

    Raises ModelError or UserError when it cannot score what `student` writes. head: its output layer, if it is here.
    """

    def __init__(self, recipe: Recipe, config: Training, student: LoadedModel, world: World) -> None:
        self.recipe, self.config, self.student, self.world = recipe, config, student, world
        self.teacher: LoadedModel | None = None
        self.head: Head | None = None
        if not recipe.teacher.scores_by_server:
            self.teacher = load(recipe.teacher.model, device=recipe.runtime.device)
            if self._by_spans:
                refuse_other_text(self.teacher.tokenizer)
            else:
                refuse_mismatch(self.teacher, student)
            self.head = self.teacher.model.get_output_embeddings()
            return
        if recipe.teacher.is_folder:
            refuse_mismatch(outline(recipe.teacher.model), student)
        if world.first:
            require_scores(recipe, student)

    @property
    def _by_spans(self) -> bool:
        return isinstance(self.config, Opd) and self.config.by_spans

    def scores(self, needs: Needs, folder: Path) -> Scores:
        """Its scores, kept in `folder`."""
        budget = self.config.tokens_per_batch
        if self.teacher is None:
            return ServedScores(self.recipe, self.student, needs, folder, budget, self.world)
        if self._by_spans:
            return SpanScores(self.teacher, self.student, teacher_format(self.recipe), folder, budget, self.world)
        return TeacherScores(self.teacher, teacher_format(self.recipe), needs, folder, budget, self.world)
