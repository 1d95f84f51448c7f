"""Faults of the compiler's own programs, as opposed to faults of a user's input."""


class IRError(Exception):
    """A malformed program: a bug in a pass or in a hand-written text."""
