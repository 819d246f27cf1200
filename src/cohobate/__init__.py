"""cohobate: build distillation datasets, and distil a teacher into a student, offline and on-policy."""

__version__ = "0.1.0"
