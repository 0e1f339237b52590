"""What can go wrong for a user, one class per kind; every message says what is wrong and what to do."""


class MocgenError(Exception):
    """Base of all errors that are shown to a user as one line."""

    exit_code = 1


class UsageError(MocgenError):
    """A request that cannot be carried out as typed: prompt, option value, storyboard."""

    exit_code = 2


class ClipError(MocgenError):
    """An input clip that is missing or cannot be read as video."""


class OutputError(MocgenError):
    """An output that cannot be written: it exists, is not writable, or the disk is full."""


class ModelError(MocgenError):
    """A model that is unknown, or whose files are missing, truncated or do not fit."""


class TrainingError(MocgenError):
    """A training run that cannot start or go on: its configuration or its data are bad."""
