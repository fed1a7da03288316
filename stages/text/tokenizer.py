"""A byte-level BPE tokenizer with a chat template, trained on one corpus's training split."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

BOS, PAD, END = "<|bos|>", "<|pad|>", "<|end|>"
ROLES = ("system", "user", "assistant")

# One special token begins a turn and another ends it. The token that ends a turn also ends a text
# (EOS). PAD is not EOS: if it were, the loss would mask the end of every answer, and the model
# would never learn to stop.
CHAT_TEMPLATE = (
    "{{ '"
    + BOS
    + "' }}{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] + '"
    + END
    + "' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


# The pre-tokenization: BPE merges only within a piece.
# "gpt2": a piece is a word with the space before it (Radford et al. 2019), or a digit.
# "atoms": a piece is an ASCII word, a LaTeX command or a single other character, each with the
# space before it. Digits and signs thus are the same tokens wherever they stand, and a small model
# can copy and edit them.
SPLITS = {"gpt2": None, "atoms": r" ?\\?[A-Za-z]+| ?[^\sA-Za-z]|\s"}


def train(texts: Iterable[str], vocab_size: int, split: str) -> "PreTrainedTokenizerFast":
    """A tokenizer of at most vocab_size tokens; it has fewer where the texts are short.

    texts: what it is trained on.   split: a key of SPLITS. The 256 bytes are in the vocabulary, so
    that any text can be encoded.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    pattern = SPLITS[split]
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            # Each digit is a piece, so that numbers of any length are copied by the same rule.
            pre_tokenizers.Split(Regex(pattern), "isolated")
            if pattern
            else pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=pattern is None),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[PAD, BOS, END, *(f"<|{role}|>" for role in ROLES)],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=BOS, eos_token=END, pad_token=PAD
    )
    fast.chat_template = CHAT_TEMPLATE
    return fast
