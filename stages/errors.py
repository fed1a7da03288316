"""Errors that a user can act on."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """A mistake that the user can mend: one sentence with the place and the remedy. Exit code 2, no
    traceback.
    """


def nearest(name: str, known: Iterable[str]) -> str:
    """What an error about an unknown name ends with."""
    known = list(known)
    close = difflib.get_close_matches(name, known, n=1)
    return (
        f"; did you mean `{close[0]}`?" if close else f"; there are: {', '.join(known) or 'none'}"
    )
