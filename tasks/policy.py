"""The tiny policy and the study of its judge as tasks."""

from cohobate.config import Recipe
from cohobate.experiments.tiny_policy import judge_stage
from cohobate.experiments.tiny_policy import stage as policy
from cohobate.store.artifacts import Artifact
from tasks.stage import stage


@stage("policy", retries=1)
def train_policy(recipe: Recipe, questions: Artifact) -> Artifact:
    """Reinforce the tiny policy with its judge's +1 and -1."""
    return policy.train(recipe, questions)


@stage("judge")
def study_judge(recipe: Recipe, questions: Artifact, trained: Artifact) -> Artifact:
    """Measure how right the judge is, and what a noisy one does."""
    return judge_stage.study(recipe, questions, trained)
