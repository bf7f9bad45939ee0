"""Errors written for the person who must act."""

from __future__ import annotations


class UserError(Exception):
    """Bad input: says what was read, where, what is wrong, and what to do.

    Raised without a traceback on the screen; the program prints the message and exits with 1.
    """


class DataError(UserError):
    """A file or a row of the user's data is not what it should be."""


class ConfigError(UserError):
    """A config key or value is not what it should be."""
