"""What an assistant thinks before it answers, where that is written into the text of the answer:
`<think>…</think>` at its beginning, as DeepSeek-R1 and Qwen 3 do.
"""

import re

BLOCK = re.compile(r"\s*<think>(.*?)</think>", re.DOTALL)


def divided(text: str) -> tuple[str, str]:
    """(what is thought, what is said) of an answer in a corpus; "" where nothing is thought."""
    found = BLOCK.match(text)
    return (found[1].strip(), text[found.end() :].strip()) if found else ("", text.strip())


def joined(thought: str, said: str) -> str:
    return f"<think>\n{thought}\n</think>\n\n{said}"
