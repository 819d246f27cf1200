"""Verifiers: an answer and its gold answer give a verdict with a reason."""
