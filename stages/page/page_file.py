"""One HTML file with everything in it: style, script, figures as JSON, rows packed."""

import base64
import gzip
import hashlib
import html
import json
import re
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
SCRIPTS = ("elements.js", "figures.js", "versions.js", "rows.js", "page.js")
"""One script in this order: the last one draws the page."""


def html_of(figures: dict[str, Any], rows: dict[str, dict[str, Any]]) -> str:
    """figures: of all tasks.   rows: of each task, unpacked by the browser when they are looked at.

    No text of the data is markup: JSON has no `<`, and the script sets it as text. The page's
    policy allows this script, this style and pictures in the file, and no connection.
    """
    script = "\n".join((HERE / name).read_text(encoding="utf-8") for name in SCRIPTS)
    style = (HERE / "page.css").read_text(encoding="utf-8")
    packed = "\n".join(
        f'<script type="application/gzip" data-task="{html.escape(task)}">{_packed(each)}</script>'
        for task, each in rows.items()
    )
    parts = {
        "policy": f"default-src 'none'; img-src data:; script-src {_hash(script)}; "
        f"style-src {_hash(style)}",
        "style": style,
        "figures": _json(figures),
        "rows": packed,
        "script": script,
    }
    page = (HERE / "page.html").read_text(encoding="utf-8")
    return re.sub(r"{{(\w+)}}", lambda found: parts[found[1]], page)


def _json(value: Any) -> str:
    """JSON that cannot end the element that it stands in."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")


def _packed(value: Any) -> str:
    """Gzip without a time, as base64."""
    return base64.b64encode(gzip.compress(_json(value).encode(), 9, mtime=0)).decode()


def _hash(source: str) -> str:
    digest = hashlib.sha256(source.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"
