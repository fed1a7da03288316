"""Post a file as a comment on the pull or merge request that CI runs for, in place of the last one.

    python3 .ci/comment.py FILE

On GitHub: GITHUB_TOKEN (pull-requests: write), PULL_REQUEST (its number) and what GitHub sets. On
GitLab: REPORT_TOKEN (a project's access token with scope api) and what GitLab sets. Where a token
is not to be had, as on a fork, it says so and nothing is posted. Needs nothing but Python.
"""

import json
import os
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

AT_ONCE = 100  # comments of a page: the most that either forge gives
TIMEOUT_S = 30


def main(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    mark = text.partition("\n")[0]
    gitlab = "CI_API_V4_URL" in os.environ
    name = "REPORT_TOKEN" if gitlab else "GITHUB_TOKEN"
    if not os.environ.get(name):
        print(f"{name} is not set, as on a fork: nothing is posted; the report is in {path.parent}")
        return
    if gitlab:
        project = f"{os.environ['CI_API_V4_URL']}/projects/{os.environ['CI_PROJECT_ID']}"
        comments = f"{project}/merge_requests/{os.environ['CI_MERGE_REQUEST_IID']}/notes"
        headers, change, whose = {"PRIVATE-TOKEN": os.environ[name]}, "PUT", "author"
        me = call("GET", f"{os.environ['CI_API_V4_URL']}/user", headers)["username"]
        one = f"{comments}/{{}}"
    else:
        issues = f"{os.environ['GITHUB_API_URL']}/repos/{os.environ['GITHUB_REPOSITORY']}/issues"
        comments = f"{issues}/{os.environ['PULL_REQUEST']}/comments"
        headers, change, whose = {"Authorization": f"Bearer {os.environ[name]}"}, "PATCH", "user"
        me = "github-actions[bot]"  # whose comments GITHUB_TOKEN writes
        one = f"{issues}/comments/{{}}"
    for comment in listed(comments, headers):
        author = comment[whose]
        # Somebody else's that begins with the mark stays theirs.
        if comment["body"].startswith(mark) and me in (author.get("login"), author.get("username")):
            call(change, one.format(comment["id"]), headers, text)
            print(f"comment {comment['id']} was changed")
            return
    print(f"comment {call('POST', comments, headers, text)['id']} was posted")


def listed(comments: str, headers: dict[str, str]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    while len(found) % AT_ONCE == 0:
        page = len(found) // AT_ONCE + 1
        more = call("GET", f"{comments}?per_page={AT_ONCE}&page={page}", headers)
        if not more:
            break
        found += more
    return found


def call(method: str, url: str, headers: dict[str, str], body: str | None = None) -> Any:
    """What the forge answers. Exits with its words where it refuses."""
    data = None if body is None else json.dumps({"body": body}).encode()
    request = urllib.request.Request(
        url, data, headers | {"Content-Type": "application/json"}, method=method
    )
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        told = error.read().decode(errors="replace")[:500]
        raise SystemExit(f"{method} {url}: {error.code} {error.reason}: {told}") from None
    except OSError as error:
        raise SystemExit(f"{method} {url}: {error}") from None


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        raise SystemExit(__doc__)
    main(Path(sys.argv[1]))
