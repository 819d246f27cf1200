"""Errors whose messages are for a person: one sentence with the cause, the place, and the remedy.

A bad row is data and is recorded as such; these errors end a stage, and nothing that is finished is lost.
"""


class CohobateError(Exception):
    """A stage could not finish; running again resumes it."""

    exit_code = 1


class DamagedFileError(CohobateError):
    """A file is missing, altered or unreadable; the message names it."""


class OtherVersionError(DamagedFileError):
    """A file was written by a version of the program whose files this one does not read."""


class TeacherError(CohobateError):
    """The teacher fails systematically."""


class BatchFailuresError(TeacherError):
    """Too many requests of batches have failed; a retry would submit and pay for them at once again."""


class AwaitingError(CohobateError):
    """The teacher answers later, in a batch; nothing failed, and running again goes on."""

    exit_code = 4


class GateError(CohobateError):
    """New data is worse than the promoted data, so it must not replace it."""

    exit_code = 3


class UserError(CohobateError):
    """A mistake that only the user can correct; a retry is useless."""

    exit_code = 2


class RecipeError(UserError):
    """The recipe is missing, malformed or contradicts itself."""


class QuestionsError(UserError):
    """The questions file cannot be used as it is."""


class ModelError(UserError):
    """A model cannot be found or loaded, or does not fit the other model."""


class VerifierError(UserError):
    """A verifier cannot be loaded, or two data sets cannot be compared."""


class EndpointError(UserError):
    """The teacher's endpoint does not answer, refuses the key, or does not serve the model."""


class EngineError(UserError):
    """vLLM is not installed, or does not start with these settings."""


class StoreError(UserError):
    """The data folder cannot be written, or the artifact does not exist."""


class SelectionError(UserError):
    """No sample fits the selection, or it cannot be applied to the artifact."""


class ExportError(UserError):
    """The export's settings contradict each other, or its folder cannot be written."""


class CurationError(UserError):
    """The artifact cannot be curated as the recipe says."""
