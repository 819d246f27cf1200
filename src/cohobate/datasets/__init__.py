"""Triples as rows: curation, selection, diff of two datasets, the gate, export."""
