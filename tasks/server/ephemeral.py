"""The end of Prefect's ephemeral server with the run that started it."""

import subprocess
import sys


def tie_server_to_this_process() -> None:
    """Stop the ephemeral server of this process, if it has one, however this process ends.

    Prefect stops it at a normal end, but not after SIGKILL: each killed run would leave a server of 200 MB. A shell
    therefore waits at a pipe that closes only when this process dies, and then stops the server.
    """
    module = sys.modules.get("prefect.server.api.server")  # loaded only where Prefect needed a server of its own
    process = module.SubprocessASGIServer().server_process if module else None
    if process is None:
        return
    subprocess.Popen(
        ["/bin/sh", "-c", "read _; kill $0", str(process.pid)],
        stdin=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl+C is for the run, not for this shell
    )
