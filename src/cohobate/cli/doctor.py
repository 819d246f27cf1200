"""`cohobate doctor`: what is wrong with this machine."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import typer

from cohobate.cli.arguments import AsJson
from cohobate.core.server_address import server_address

if TYPE_CHECKING:
    from cohobate.stages.doctor import Finding

_COLOURS = {"ok": "green", "note": "yellow", "broken": "red"}


def doctor(as_json: AsJson = False) -> None:
    """Say what of this machine works, what is missing, and the command that mends it.

    Exit with 1 if anything is broken.
    """
    from cohobate.stages.doctor import Server, examine

    server = Server(server_address(), required=bool(os.environ.get("PREFECT_API_URL")))
    findings = list(examine(server))
    usable = all(finding.status != "broken" for finding in findings)
    if as_json:
        print(json.dumps({"usable": usable, "findings": [asdict(finding) for finding in findings]}, indent=2))
    else:
        _print(findings)
    if not usable:
        raise typer.Exit(1)


def _print(findings: Sequence[Finding]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table("", "", "finding", box=None, header_style="bold")
    for finding in findings:
        detail = Text(finding.detail)
        if finding.mend and finding.status != "ok":
            detail.append(f"\n    {finding.mend}", style="bold")
        table.add_row(Text(finding.status, style=_COLOURS[finding.status]), finding.name, detail)
    Console(soft_wrap=False).print(table)
