"""A byte-level BPE tokenizer with a chat template, trained on one corpus's training split."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

BOS, PAD, END = "<|bos|>", "<|pad|>", "<|end|>"
ROLES = ("system", "user", "assistant")

# One special token opens a turn and one ends it. The end of a turn is the end of a text too (EOS); PAD is a token of its
# own: where PAD is EOS, the loss masks the end of every answer and generation never stops.
CHAT_TEMPLATE = (
    "{{ '"
    + BOS
    + "' }}{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] + '"
    + END
    + "' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


# Where BPE may merge. "gpt2": within words, with the space before them (Radford et al. 2019). "atoms": within ASCII words and
# LaTeX commands, with the space before them; digits, signs and all other characters stand alone, so that the same thing is
# the same token wherever it stands, and a small model can copy and edit it.
SPLITS = {"gpt2": None, "atoms": r" ?\\?[A-Za-z]+| ?[^\sA-Za-z]|\s"}


def train(texts: Iterable[str], vocab_size: int, split: str) -> "PreTrainedTokenizerFast":
    """Any text is encodable: the 256 bytes are in the vocabulary. At most vocab_size tokens; short texts give fewer."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    pattern = SPLITS[split]
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            # Digits one by one, so that numbers of any length are copied by the same rule.
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
