"""Personalisation without forgetting: learn documents, measure what was lost, recover it on-policy."""
