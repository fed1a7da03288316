"""What an assistant thinks before it answers, where that is written into the text of the answer:
`<think>…</think>` at its beginning, as DeepSeek-R1 and Qwen 3 do.
"""

import re

BLOCK = re.compile(r"\s*(?:<think>(.*?)|((?:(?!<think>).)*?)\n[ \t]*)</think>", re.DOTALL)
"""Without its beginning where that stood in the prompt; `</think>` has a line of its own then."""


def divided(text: str) -> tuple[str, str]:
    """(what is thought, what is said) of an answer in a corpus; "" where nothing is thought."""
    found = BLOCK.match(text)
    if not found:
        return "", text.strip()
    return (found[1] or found[2] or "").strip(), text[found.end() :].strip()


def joined(thought: str, said: str) -> str:
    return f"<think>\n{thought}\n</think>\n\n{said}"
