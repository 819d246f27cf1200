"""Curation: labels for duplicates, contamination, length and difficulty; what is rejected is kept with its reason."""
