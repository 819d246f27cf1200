"""Students of several methods from one start: accuracy and compute side by side."""
