"""Export: triples -> a folder that other training libraries read, with a dataset card."""
