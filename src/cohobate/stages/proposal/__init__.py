"""A recipe for somebody's own questions, teacher, student and machine: `cohobate init`.

`questions` and `teacher` look at what is there, `training` chooses settings that fit, `draft` is the file.
"""

from cohobate.stages.proposal.draft import Draft
from cohobate.stages.proposal.questions import guessed
from cohobate.stages.proposal.sections import Proposal, propose
from cohobate.stages.proposal.wishes import Wishes

__all__ = ["Draft", "Proposal", "Wishes", "guessed", "propose"]
