"""Personalisation without forgetting: mid-training on documents, and on-policy recovery of what was forgotten."""
