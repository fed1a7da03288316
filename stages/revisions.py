"""Git revisions and experiments, whose outputs DVC's cache or a remote has."""

from typing import Any

from stages.errors import UserError


def files_of(revision: str) -> Any:
    """DVC's file system of a revision. Raises UserError where there is none of that name."""
    from dvc.api import DVCFileSystem

    try:
        files = DVCFileSystem(rev=revision)
        files.repo  # noqa: B018  # opens it, which resolves the revision
    except Exception as error:  # those of the library that reads git are not among DVC's
        raise UserError(
            f"{revision}: no such revision or experiment ({error}); `git log` and `dvc exp list` "
            "say which there are"
        ) from None
    return files
