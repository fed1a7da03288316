"""What is installed: the packages that the code imports."""

import ast
import re
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

ROOT = Path(__file__).parents[1]


def canonical(name: str) -> str:
    """A distribution's name as PyPI compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def test_every_import_is_a_pinned_requirement_and_every_requirement_is_imported_or_says_why():
    imported = set()
    for file in (ROOT / "stages").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_bytes())):
            if isinstance(node, ast.Import):
                imported |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                imported.add(node.module.partition(".")[0])
    installed = packages_distributions()
    others = imported - sys.stdlib_module_names - {"stages"}
    assert {"numpy", "scipy", "torch", "yaml"} <= others
    suppliers = {module: {canonical(name) for name in installed[module]} for module in others}

    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    pinned = {}
    for line in lines:
        if line and not line.startswith("#"):
            form = r"([\w.-]+)(?:\[\w+\])?==[^#]+?(?: +# (.+))?"  # name, reason
            name, reason = re.fullmatch(form, line).groups()
            pinned[canonical(name)] = reason
    assert {module for module, names in suppliers.items() if not names & set(pinned)} == set()
    assert {name for name, reason in pinned.items() if not reason} <= set.union(*suppliers.values())
