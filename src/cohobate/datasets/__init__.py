"""Triples as rows: curation, selection, comparison of two datasets, the gate, export."""
