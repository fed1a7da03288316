"""What is installed: the packages that the code imports, and the command `tsugiki`."""

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from tests.conftest import run

ROOT = Path(__file__).parents[1]
LAUNCH = "import sys; sys.path[0] = {first!r}; from {module} import {function}; {function}()"


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


@pytest.fixture
def launch() -> str:
    """What the script `tsugiki` does where it was installed from this clone."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        module, function = tomllib.load(file)["project"]["scripts"]["tsugiki"].split(":")
    return LAUNCH.format(first=str(ROOT), module=module, function=function)


def test_tsugiki_is_python_m_stages_with_the_code_of_the_folder_it_is_called_in(tmp_path, launch):
    in_first = run(ROOT, "python", "-c", launch, "new", "--help")
    assert in_first.stdout == run(ROOT, "python", "-m", "stages", "new", "--help").stdout

    main = tmp_path / "stages/__main__.py"
    main.parent.mkdir()
    main.write_text("import sys\nprint(__file__, sys.argv[1:])\n", encoding="utf-8")
    in_second = run(tmp_path, "python", "-c", launch, "check", "gec-002")
    assert in_second.stdout == f"{main} ['check', 'gec-002']\n"


def test_tsugiki_outside_of_a_repository_says_where_to_call_it(tmp_path, launch):
    done = run(tmp_path, "python", "-c", launch, "check", "gec-002", succeeds=False)
    assert done.returncode == 2
    says = "no Tsugiki repository; call tsugiki in the folder that has params.yaml and stages/"
    assert done.stderr == f"{tmp_path}: {says}\n"
