"""tsugiki VERB: `python -m stages VERB`, whichever clone the script was installed from."""

import os
import sys
from pathlib import Path


def main() -> None:
    """Becomes `python -m stages`, which looks for its code in the current folder first.

    The script's own import found the clone that was installed; another one has other code.
    """
    if not Path("stages/__main__.py").is_file():
        what_to_do = "call tsugiki in the folder that has params.yaml and stages/"
        print(f"{Path.cwd()}: no Tsugiki repository; {what_to_do}", file=sys.stderr)
        raise SystemExit(2)
    os.execv(sys.executable, [sys.executable, "-m", "stages", *sys.argv[1:]])
