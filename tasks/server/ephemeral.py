"""Prefect's ephemeral server must not outlive a run that is killed."""

import subprocess
import sys


def tie_server_to_this_process() -> None:
    """Stop the ephemeral server of this process, if it has one, however this process ends.

    Prefect stops it at a normal end. After SIGKILL nobody would: each killed run would leave a server of 200 MB. So a
    shell waits at a pipe that only the death of this process closes, and then stops the server.
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
