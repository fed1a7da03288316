"""merge-file: git's merge of a file of the graph, by its entries instead of its lines."""

import re
import subprocess
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from stages.commands.begin import LOCK
from stages.errors import UserError
from stages.files import atomic_write

Entries = dict[str, str]
KEY = re.compile(r"( {0,2})([\w.@-]+):(.*)")
VERSION = re.compile(r"(?:corpora|runs)\.(\w+-[0-9]{3})|data/([^/]+)/train_([0-9]{3})\..*")
ARTIFACT = re.compile(r"path: models/\w+-([0-9]{3})")


def merge_file(
    base: Annotated[
        Path,
        typer.Argument(help="%O: the file where the branches parted"),
    ],
    ours: Annotated[
        Path,
        typer.Argument(help="%A: ours, which becomes the merged one"),
    ],
    theirs: Annotated[Path, typer.Argument(help="%B: theirs")],
    name: Annotated[str, typer.Argument(help="%P: its name in the repository")],
) -> None:
    """Merge dvc.lock by its stages, params.yaml and dvc.yaml by their entries, whose comments stay.
    Git calls it for a file that both branches have changed, set up as in docs/together.md.

    A stage that both have changed differently leaves dvc.lock, so that `dvc repro` runs it again.
    Any other entry that both have changed differently is told, and left with git's marks (exit code
    2).

    Examples:

      git config merge.tsugiki.driver "python -m stages merge-file %O %A %B %P"
    """
    was, own, other = (entries(path.read_text("utf-8")) for path in (base, ours, theirs))
    found, both = (own, [name]) if Path(name).suffix == ".dvc" else merged(was, own, other)
    if name == str(LOCK) and both:
        for key in both:
            del found[key]
        stages = ", ".join(key.removeprefix("stages.") for key in both)
        told = f"both branches have run these, which `dvc repro` runs again: {stages}"
        typer.echo(f"{name}: {told}", err=True)
    elif both:
        subprocess.run(["git", "merge-file", str(ours), str(base), str(theirs)])
        added = both if not base.stat().st_size else [key for key in both if key not in was]
        keys = ", ".join(key.strip() or "comments at its end" for key in both)
        raise UserError(f"{name}: both branches have their own {keys}; {remedy(added)}")
    text = "".join(found.values())
    try:
        yaml.safe_load(text)
    except yaml.YAMLError as error:
        subprocess.run(["git", "merge-file", str(ours), str(base), str(theirs)])
        raise UserError(
            f"{name}: merged by entry it is no YAML ({str(error).splitlines()[0]}), so that git "
            "has merged it by line; look at both branches' files"
        ) from None
    with atomic_write(ours) as file:
        file.write(text)


def remedy(added: list[str]) -> str:
    """What the user does about entries of which both branches have their own; added: by both."""
    versions = dict.fromkeys(
        named[1] or f"{named[2]}-{named[3]}" for key in added if (named := VERSION.search(key))
    )
    if not versions:
        return "keep one, or what is right of both"
    again = "` and `".join(f"python -m stages renumber {version}" for version in versions)
    return (
        f"where two versions have got one number, `git merge --abort`, then `{again}` on one of "
        "the branches, commit there, and merge again; else keep one"
    )


def entries(text: str) -> Entries:
    """{dotted key: its lines} of a YAML file as params.yaml, dvc.yaml and dvc.lock are written: of
    the keys at its top and of those two spaces in, each with the comments above it.
    """
    found: Entries = {"": ""}
    key, top, above = "", "", ""
    for line in map("{}\n".format, text.removesuffix("\n").split("\n")):
        named = KEY.match(line)
        if named and not named[1]:
            # What follows on the same line is all of it.
            top, key = (named[2] if re.fullmatch(r"\s*(#.*)?", named[3]) else ""), named[2]
        elif named and len(named[1]) == 2 and top:
            key = f"{top}.{named[2]}"
        elif re.match(r"\s*$|( {2})?#", line):
            above += line
            continue
        found[key] = found.get(key, "") + above + line
        above = ""
    found["\n"] = above  # the end of the file
    return found


def merged(base: Entries, ours: Entries, theirs: Entries) -> tuple[Entries, list[str]]:
    """(the merged entries, the keys that both have changed differently, which are ours there).

    What theirs adds comes after what it follows there, and after what ours adds at that place.
    """
    kept, both = dict[str, str | None](), list[str]()
    for key in _in_order(base, ours, theirs):
        was, own, other = base.get(key), ours.get(key), theirs.get(key)
        if own == other or other == was:
            kept[key] = own
        elif own == was:
            kept[key] = other
        elif together := _together(key, was or "", own or "", other or ""):
            kept[key] = together
        else:
            kept[key] = own or other
            both.append(key)
    return {key: text for key, text in kept.items() if text is not None}, both


def _in_order(base: Entries, ours: Entries, theirs: Entries) -> list[str]:
    keys = [*ours]
    before = ""
    for key in theirs:
        if key not in ours:
            at = keys.index(before) + 1
            while at < len(keys) and keys[at] not in base and keys[at] not in theirs:
                if key[:-3] == keys[at][:-3] and key < keys[at]:
                    break  # of a task's versions the last one is the newest
                at += 1
            keys.insert(at, key)
        before = key
    return keys


def _together(key: str, base: str, ours: str, theirs: str) -> str:
    """What is right of two changes: of a list, such as `compare`, the items that either has added;
    of an artifact the newer version. "" where neither is known to be.
    """
    artifacts = [(int(run[1]), text) for text in (ours, theirs) if (run := ARTIFACT.search(text))]
    if key.startswith("artifacts.") and len(artifacts) == 2:
        return max(artifacts)[1]
    lists: list[Any] = [(yaml.safe_load(text) or {}).get(key) for text in (base, ours, theirs)]
    if not all(isinstance(each, list) for each in lists):
        return ""
    was, own, other = lists
    items = [each for each in own if each in other or each not in was]
    items += [each for each in other if each not in was and each not in own]
    head = ours[: ours.rindex(f"{key}:")]
    return f"{head}{key}: {yaml.safe_dump(items, default_flow_style=True, width=10**6)}"
