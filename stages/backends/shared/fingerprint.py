"""Checksums of files and folders, as lineage.json holds them: they tell bytes apart, not times or
places.
"""

import hashlib
from pathlib import Path


def fingerprint(*paths: Path) -> str:
    """32 hex digits that stand for the bytes of these files and folders, and for nothing else (no
    times, no places).
    """
    total = hashlib.md5(usedforsecurity=False)
    for path in paths:
        files = (
            sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
        )
        for file in files:
            total.update(
                f"{file.relative_to(path) if path.is_dir() else ''}\0{md5(file)}\n".encode()
            )
    return total.hexdigest()


def md5(file: Path) -> str:
    """The MD5 that DVC writes for the same file."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
