"""Comparison of training methods from one start: accuracy and compute side by side."""
