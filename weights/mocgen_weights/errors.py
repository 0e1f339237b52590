"""The one error of this package."""


class WeightsError(Exception):
    """Model files that are missing, broken or cannot be fetched; the message says what to do."""
