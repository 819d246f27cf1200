"""The stages as Prefect tasks: retries, states, progress and artifacts. The work itself is in cohobate."""
