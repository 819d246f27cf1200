"""The stages: questions -> triples -> sft -> opd -> evaluation -> report, one module each."""

# The program of the further processes of a training stage.
RANK_MODULE = "cohobate.stages.rank"
