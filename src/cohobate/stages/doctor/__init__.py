"""What of this machine works, what is missing, and the command that mends it: `cohobate doctor`.

`combinations` holds the versions that do not go together, `checks` looks at everything else.
"""

from cohobate.stages.doctor.checks import Finding, Server, examine
from cohobate.stages.doctor.combinations import REASONS, Conflict, conflicts, requirements

__all__ = ["REASONS", "Conflict", "Finding", "Server", "conflicts", "examine", "requirements"]
