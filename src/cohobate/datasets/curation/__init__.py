"""Curation: filters for duplicates, contamination, length and difficulty; rejects stay with their reasons."""
