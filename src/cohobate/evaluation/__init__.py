"""Evaluation of answers and models: verifiers, accuracy, pass@k, lm-evaluation-harness."""
