"""The flows: the order of the stages, and nothing else."""

import os

# Set before Prefect is imported: no usage statistics leave the machine, and a busy one may start slowly.
os.environ.setdefault("DO_NOT_TRACK", "1")
os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "120")
