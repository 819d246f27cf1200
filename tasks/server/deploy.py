"""Deployments of prefect.yaml for the server of PREFECT_API_URL, in the process of `up` that imports flows.

    python -m tasks.server.deploy [--reset]

What the operator has changed on the server stays, and is said.
"""

import argparse
import sys
from collections.abc import Sequence

from prefect.client.orchestration import get_client

from cohobate.core.errors import UserError
from tasks.server import definitions
from tasks.server.deployments import provide_all


def main(argv: Sequence[str]) -> int:
    """Provide them, and return the exit code: 2 if prefect.yaml cannot be used."""
    parser = argparse.ArgumentParser(prog="python -m tasks.server.deploy")
    parser.add_argument("--reset", action="store_true")
    arguments = parser.parse_args(argv)
    try:
        wanted = definitions.read(definitions.find())
        with get_client(sync_client=True) as client:
            for sentence in provide_all(client, wanted, definitions.working_folder(), reset=arguments.reset):
                print(f"-- {sentence}", flush=True)
    except UserError as error:
        print(f"cohobate: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
