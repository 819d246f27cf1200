"""The stages: questions -> triples -> sft -> opd -> evaluation -> report, one module each."""
