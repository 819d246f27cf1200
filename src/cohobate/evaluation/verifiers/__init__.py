"""Verifiers: a verdict with a reason for an answer and its gold answer."""
