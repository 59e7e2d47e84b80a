"""Errors that a user can mend. The command prints their text alone and exits with 2.

Every message says three things: what was expected, what came, and what to do.
"""


class MimstocrError(Exception):
    """The root of every error that is the user's to mend."""


class ConfigError(MimstocrError):
    """A setting, or a combination of settings, that cannot be used."""


class DataError(MimstocrError):
    """Prices, dates or symbols that cannot be used."""


class RunError(MimstocrError):
    """A run folder or checkpoint that does not fit the request."""


class TrainingError(MimstocrError):
    """Training that cannot go on, such as a loss that is not finite."""
