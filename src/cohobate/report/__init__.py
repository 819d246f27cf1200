"""Pages from facts: the report of a run, of a dataset, of a diff and of an experiment."""
