r"""Pseudocode of the packages algorithmic, algpseudocode and algorithm2e as indented lines."""

import re

from stages.latex.definitions import argument
from stages.latex.pandoc import Node

STEP = re.compile(
    r"\\(?P<name>State|STATE|Statex|Require|REQUIRE|Ensure|ENSURE|Return|RETURN|Print|If|IF|ElsIf|ELSIF"
    r"|ElseIf|Else|ELSE|EndIf|ENDIF|For|FOR|ForAll|FORALL|EndFor|ENDFOR|While|WHILE|EndWhile|ENDWHILE"
    r"|Repeat|REPEAT|Until|UNTIL|Loop|LOOP|EndLoop|ENDLOOP|Function|EndFunction|Procedure|EndProcedure"
    r"|Comment|COMMENT|Input|Output|KwIn|KwOut|KwData|KwResult|KwRet|ForEach|eIf|uIf|lIf|SetAlgoLined|DontPrintSemicolon"
    r"|LinesNumbered|BlankLine)(?![A-Za-z])"
)
OPENS = {
    "if": ("if", "then"), "for": ("for", "do"), "forall": ("for all", "do"),
    "foreach": ("for each", "do"), "while": ("while", "do"), "repeat": ("repeat", ""),
    "loop": ("loop", ""), "function": ("function", ""), "procedure": ("procedure", ""),
    "uif": ("if", "then"), "lif": ("if", "then"),
}  # fmt: skip
LEADS = {
    "require": "Require:", "ensure": "Ensure:", "return": "return", "print": "print",
    "input": "Input:", "output": "Output:", "kwin": "Input:", "kwout": "Output:", "kwdata": "Data:",
    "kwresult": "Result:", "kwret": "return",
}  # fmt: skip


def nodes(latex: str) -> list[Node]:
    """A paragraph for each step, indented by how deep it stands."""
    lines: list[tuple[int, str, str, str]] = []
    _steps(latex, 0, lines)
    made: list[Node] = []
    for depth, lead, text, after in lines:
        inlines: list[Node] = [{"t": "RawInline", "c": ["typst", f"#step({depth})["]}]
        if lead:
            inlines += [{"t": "Strong", "c": [{"t": "Str", "c": lead}]}, {"t": "Space"}]
        inlines.append({"t": "TexInline", "c": text})
        if after:
            inlines += [{"t": "Space"}, {"t": "Strong", "c": [{"t": "Str", "c": after}]}]
        made.append({"t": "Plain", "c": [*inlines, {"t": "RawInline", "c": ["typst", "]"]}]})
    return made


def _steps(latex: str, depth: int, lines: list[tuple[int, str, str, str]]) -> None:
    position = 0
    if given := argument(latex, 0, "[]"):
        position = given[1]  # every how many lines are numbered
    found = list(STEP.finditer(latex, position))
    first = latex[position : found[0].start() if found else len(latex)]
    _lines_of(first, depth, lines)
    skip_to = position
    for at, match in enumerate(found):
        if match.start() < skip_to:
            continue
        stop = found[at + 1].start() if at + 1 < len(found) else len(latex)
        name = match["name"].lower()
        end = match.end()
        condition = argument(latex, end)
        if name in OPENS:
            lead, after = OPENS[name]
            text = condition[0] if condition else ""
            end = condition[1] if condition else end
            if name in ("function", "procedure") and (more := argument(latex, end)):
                text, end = f"{text}({more[0]})", more[1]
            lines.append((depth, lead, text, after))
            body = (
                argument(latex, end)
                if condition and not latex[end:].lstrip(" \t").startswith("\n")
                else None
            )
            if body:  # algorithm2e's form: the lines stand in braces
                if depth < 20:
                    _steps(body[0], depth + 1, lines)
                skip_to = end = body[1]
                later = next((each.start() for each in found if each.start() >= end), len(latex))
                _lines_of(latex[end:later], depth, lines)
                continue
            depth += 1
            _lines_of(latex[end:stop], depth, lines)
        elif name in ("else", "elsif", "elseif"):
            text = condition[0] if condition and name != "else" else ""
            lines.append(
                (
                    max(0, depth - 1),
                    "else" if name == "else" else "else if",
                    text,
                    "" if name == "else" else "then",
                )
            )
        elif name == "until":
            depth = max(0, depth - 1)
            lines.append((depth, "until", condition[0] if condition else "", ""))
        elif name.startswith("end"):
            depth = max(0, depth - 1)
        elif name == "comment":
            text = condition[0] if condition else ""
            if lines:
                before = lines.pop()
                lines.append(
                    (
                        *before[:2],
                        f"{before[2]} \\qquad \\textit{{\\(\\triangleright\\) {text}}}",
                        before[3],
                    )
                )
        elif name in ("setalgolined", "dontprintsemicolon", "linesnumbered", "blankline"):
            continue
        else:
            text = latex[end:stop]
            if condition and name.startswith("kw"):
                text = condition[0]
            if not text.strip() and name not in LEADS:
                continue  # a step that is another command, such as \\Return
            lines.append((depth, LEADS.get(name, ""), text.replace(r"\;", " ").strip(), ""))


def _lines_of(text: str, depth: int, lines: list[tuple[int, str, str, str]]) -> None:
    """Lines of algorithm2e, which end with `\\;`."""
    lines.extend(
        (depth, "", each.strip(), "") for each in text.split(r"\;") if each.strip(" \t\n{}")
    )
