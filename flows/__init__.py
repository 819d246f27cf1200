"""The flows: the order of the stages, and nothing else."""

import os

from cohobate.core import interrupts

interrupts.register_end()

# Set before Prefect is imported: no usage statistics leave the machine, a busy one may start slowly, and a server that
# Prefect starts for a flow which Python code calls obeys no web page (`tasks.server.access`).
os.environ.setdefault("DO_NOT_TRACK", "1")
os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "120")
os.environ.setdefault("PREFECT_SERVER_API_CORS_ALLOWED_ORIGINS", "http://127.0.0.1")
os.environ.setdefault("PREFECT_SERVER_API_CSRF_PROTECTION_ENABLED", "true")
