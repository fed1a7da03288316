"""The tokenizer of a run: its base's, with the tokens that the run adds."""

from pathlib import Path

from transformers import AutoTokenizer, PreTrainedTokenizerBase

from stages.backends.shared import model_folders
from stages.errors import UserError
from stages.settings import Common
from stages.text import chat_templates
from stages.text.rendering import THINKING


def load_tokenizer(
    model: str, base: str, settings: Common | None = None
) -> PreTrainedTokenizerBase:
    """The tokenizer that a run brings with it, else its base's, with the chat template that the
    settings ask for.

    Raises UserError for a tokenizer that is code of the checkpoint.
    """
    own = Path(model, "tokenizer_config.json").is_file()
    folder = Path(model) if own else model_folders.locate(base)
    with model_folders.loading(folder, "no tokenizer that transformers reads"):
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    if settings and settings.chat_template:
        tokenizer.chat_template = chat_templates.read(settings.chat_template)
    if settings and settings.enable_thinking and (template := tokenizer.chat_template):
        tokenizer.chat_template = (
            {name: THINKING + each for name, each in template.items()}
            if isinstance(template, dict)
            else THINKING + template.removeprefix(THINKING)
        )
    # padding is never labelled and never attended to, so any id serves
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.convert_ids_to_tokens(0)
    return tokenizer


def add_tokens(tokenizer: PreTrainedTokenizerBase, tokens: list[str]) -> list[int]:
    """The ids of a run's added tokens. Raises UserError for one that the base's vocabulary has
    already.
    """
    earlier = {str(token) for token in tokenizer.added_tokens_decoder.values() if not token.special}
    if known := [
        token for token in tokens if token in tokenizer.get_vocab() and token not in earlier
    ]:
        raise UserError(
            f"added_tokens: the base's vocabulary has {', '.join(known)} already; leave it out"
        )
    tokenizer.add_tokens(tokens)
    return [tokenizer.convert_tokens_to_ids(token) for token in tokens]
