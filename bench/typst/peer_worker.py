"""A converter as a program: each line of its standard input a JSON list of LaTeX texts, and for each
text a line that it writes: [Typst or null, seconds]. `document` as the second argument: of whole documents.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable


def tylax(document: bool) -> Callable[[str], str]:
    import tylax

    return lambda latex: tylax.latex_to_typst(latex, document=document)


def tex2typst(document: bool) -> Callable[[str], str]:
    import tex2typst

    return tex2typst.tex2typst


def rules(document: bool) -> Callable[[str], str | None]:
    from stages.latex.formula_rules import typst_of

    return typst_of


def pandoc(document: bool) -> Callable[[str], str]:
    import pypandoc

    whole = ["--standalone"] if document else []
    command = [pypandoc.get_pandoc_path(), "--sandbox", "--from=latex", "--to=typst", *whole]

    def convert(latex: str) -> str:
        asked = latex if document else f"$${latex}$$"
        done = subprocess.run(command, input=asked, capture_output=True, text=True, timeout=60)
        if done.returncode:
            raise ValueError(done.stderr)
        return done.stdout

    return convert


def main(name: str, document: bool) -> None:
    converters: dict[str, Callable[[bool], Callable[[str], str | None]]] = {
        "tylax": tylax,
        "tex2typst": tex2typst,
        "pandoc": pandoc,
        "rules": rules,
    }
    convert = converters[name](document)
    print(json.dumps("ready"), flush=True)
    for line in sys.stdin:
        for latex in json.loads(line):
            answer, begin = None, time.perf_counter()
            try:
                answer = convert(latex)
            except BaseException as error:  # a panic of Rust is none of Exception
                print(error, file=sys.stderr)
            print(json.dumps([answer, time.perf_counter() - begin]), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:] == ["document"])
