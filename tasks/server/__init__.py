"""A Prefect server with a worker, and what is done to its runs."""
