"""An edit of params.yaml by a command."""

from collections.abc import Iterator
from contextlib import contextmanager
from io import StringIO

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap

from stages.files import atomic_write
from stages.params import PARAMS, validate


@contextmanager
def edited_params() -> Iterator[CommentedMap]:
    """The document, written when the block ends well; its comments and order stay.

    Raises UserError, and writes nothing, where it would not be valid.
    """
    yaml = YAML()
    yaml.width, yaml.preserve_quotes = 200, True
    document = yaml.load(PARAMS.read_text(encoding="utf-8"))
    yield document
    text = StringIO()
    yaml.dump(document, text)
    validate(text.getvalue(), PARAMS)
    with atomic_write(PARAMS) as file:
        file.write(text.getvalue())
