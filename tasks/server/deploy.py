"""Deployments on the server at PREFECT_API_URL, or on this machine: those of prefect.yaml, or one of a recipe.

python -m tasks.server.deploy [--reset]
the process of `cohobate up` that imports the flows; what the operator has changed on the server stays, and is said
python -m tasks.server.deploy RECIPE [--flow nightly] [--cron "0 2 * * *"] [--timezone UTC] [--name NAME]
`cohobate deploy`
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cohobate.config.load import find_recipe, load_recipe
from cohobate.core.errors import UserError
from cohobate.core.server_address import server_address
from cohobate.core.shipped import shipped_path
from tasks.server import definitions, server_environment
from tasks.server.definitions import Concurrency, Definition, Pool, Schedule

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

# Whose only parameter without a value of its own is the recipe.
FLOWS = ("nightly", "distill", "compare", "judge", "recover", "single-prompt")
_POOL = "cohobate"


def main(argv: Sequence[str]) -> int:
    """Make them, and return the exit code: 2 for a recipe or a prefect.yaml that cannot be used."""
    arguments = _parse(argv)
    url = server_address()
    try:
        os.environ.update(server_environment.environment(url))
        if arguments.recipe is None:
            _provide_all(reset=arguments.reset)
        else:
            _provide_one(url, arguments)
    except UserError as error:
        print(f"cohobate: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="cohobate deploy")
    parser.add_argument("recipe", nargs="?")
    parser.add_argument("--flow", choices=FLOWS, default="nightly")
    parser.add_argument("--cron")
    parser.add_argument("--timezone", default="UTC")
    parser.add_argument("--name")
    parser.add_argument("--reset", action="store_true")
    return parser.parse_args(argv)


def _provide_all(*, reset: bool) -> None:
    from prefect.client.orchestration import get_client

    from tasks.server.deployments import provide_all

    wanted = definitions.read(definitions.find())
    with get_client(sync_client=True) as client:
        for sentence in provide_all(client, wanted, definitions.working_folder(), reset=reset):
            print(f"-- {sentence}", flush=True)


def _provide_one(url: str, arguments: argparse.Namespace) -> None:
    definition, folder = _of_recipe(arguments)
    definitions.refuse_namesakes(folder)
    from prefect.client.orchestration import get_client

    from tasks.server import connection
    from tasks.server.deployments import provide, timetables

    connection.check(url)
    with get_client(sync_client=True) as client:
        _refuse_anothers(client, f"{arguments.flow}/{definition.name}", definition)
        # By name, on purpose, and now: what was changed on the server before gives way.
        for sentence in provide(client, definition, folder, reset=True):
            print(f"-- {sentence}")
        deployment = client.read_deployment_by_name(f"{arguments.flow}/{definition.name}")
        when = ", ".join(timetables(deployment)) or "on demand"
        print(f"{arguments.flow}/{definition.name}: recipe {definition.parameters['recipe']}, {when}")
        print(f"{url}/deployments/deployment/{deployment.id}")


def _refuse_anothers(client: "SyncPrefectClient", name: str, definition: Definition) -> None:
    """Raise UserError where the deployment `name` is there and runs another recipe."""
    from prefect.exceptions import ObjectNotFound

    try:
        recipe = client.read_deployment_by_name(name).parameters.get("recipe")
    except ObjectNotFound:
        return
    if recipe != definition.parameters["recipe"]:
        runs = f"recipe {recipe}" if isinstance(recipe, str) else "a recipe that was changed or filled in on the server"
        raise UserError(f"{name} is there and runs {runs}; give another --name, or delete that deployment first")


def _of_recipe(arguments: argparse.Namespace) -> tuple[Definition, Path]:
    """The deployment, and the folder in which its runs work: the recipe's. Raises UserError."""
    if arguments.cron is not None and not arguments.cron.strip():
        raise UserError("--cron is empty; give five fields such as '0 2 * * *', or leave it out for runs on demand")
    recipe, path = load_recipe(arguments.recipe), find_recipe(arguments.recipe)
    shipped = path == shipped_path(f"recipes/{arguments.recipe}.toml")
    name = arguments.name or recipe.name
    entrypoint = f"flows.{arguments.flow.replace('-', '_')}.{arguments.flow.replace('-', '_')}"
    file = definitions.find()
    if any((each.entrypoint, each.name) == (entrypoint, name) for each in definitions.read(file)):
        raise UserError(f"{arguments.flow}/{name} is a deployment of {file}; change it there, or give another --name")
    definition = Definition(
        name=name,
        entrypoint=entrypoint,
        description=recipe.description or f"The flow {arguments.flow} of recipe {recipe.name}.",
        parameters={"recipe": arguments.recipe if shipped else str(path.resolve())},
        tags=["cohobate"],
        concurrency_limit=Concurrency(limit=1),
        schedules=[Schedule(cron=arguments.cron, timezone=arguments.timezone)] if arguments.cron else [],
        work_pool=Pool(name=_POOL),
    )
    return definition, definitions.working_folder() if shipped else path.resolve().parent


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
