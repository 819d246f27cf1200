"""A recipe of three steps for every objective, and the stages that its training starts from."""

from cohobate.config.load import load_recipe
from cohobate.stages import questions, sft, triples
from cohobate.store.artifacts import Artifact

SMALL = ["questions.train=48", "sft.steps=6", "opd.steps=3", "opd.snapshot_every=1", "opd.prompts=4", "opd.warmup=0"]


METHODS: dict[str, list[str]] = {
    "exact": [],
    "sampled": ["opd.objective=sampled"],
    "discounted": ["opd.objective=sampled", "opd.sampled.discount=0.5"],
    "control variate": ["opd.objective=sampled", "opd.sampled.control_variate=8"],
    "topk": ["opd.objective=topk", "opd.topk.k=4"],
    "topk forward": ["opd.objective=topk", "opd.topk.direction=forward"],
    "jsd": ["opd.objective=gkd"],
    "gkd mixed": ["opd.objective=gkd", "opd.gkd.beta=0", "opd.gkd.on_policy=0.5"],
    "grpo": ["opd.objective=grpo"],
    "grpo twice": ["opd.objective=grpo", "opd.updates=2", "opd.grpo.lengths=responses"],
    "grpo with teacher": ["opd.objective=grpo", "opd.grpo.teacher=0.5"],
    "ghost": ["opd.objective=ghost"],
    "ghost own": ["opd.objective=ghost", "opd.ghost.source=own"],
    "ghost triples": ["opd.objective=ghost", "opd.ghost.source=triples", "opd.ghost.entropy_bonus=0.1"],
    "ghost gold": ["opd.objective=ghost", "opd.ghost.source=gold"],
    "judge": ["opd.objective=judge"],
    "judge alone": ["opd.objective=judge", "opd.group=1", "opd.judge.leave_one_out=false"],
    "dpo": ["opd.objective=dpo", "opd.updates=2"],
    "dpo over wrong ones": ["opd.objective=dpo", "opd.dpo.pairs=wrong", "opd.dpo.lengths=mean", "opd.dpo.beta=5"],
    "simpo own": ["opd.objective=simpo", "opd.simpo.pairs=own"],
    "kto": ["opd.objective=kto", "opd.updates=2"],
    "shorter": ["opd.objective=sampled", "opd.length.target=20"],
    "shorter and right": ["opd.objective=grpo", "opd.length.price=0.5", "opd.updates=2"],
    "partial": ["opd.train_tokens=5"],
    "overlap": ["opd.objective=sampled", "opd.overlap=true"],
    "overlap with rewards": ["opd.objective=grpo", "opd.grpo.teacher=0.5", "opd.overlap=true"],
    "shown the answer": ["teacher.privileged.prompt='{question} It is {gold_answer}.'", "teacher.follow=0.0"],
    "shown feedback by its average": [
        "opd.objective=sampled",
        "teacher.privileged.prompt='{question} Before: {feedback}'",
        "teacher.follow=0.3",
    ],
    "overlap of whole distributions": ["opd.overlap=true"],
}


def write_start() -> list[Artifact]:
    """The student after SFT, the questions and the triples: what `opd.train` takes."""
    recipe = load_recipe("tiny", SMALL)
    asked = questions.write(recipe)
    taught = triples.write(recipe, asked)
    return [sft.train(recipe, taught, asked), asked, taught]
