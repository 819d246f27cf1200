"""What an answer is worth: verifiers, accuracy, pass@k, lm-evaluation-harness."""
