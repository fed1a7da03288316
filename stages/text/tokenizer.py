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
    "{{ '" + BOS + "' }}{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] + '" + END + "' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


def train(texts: Iterable[str], vocab_size: int) -> "PreTrainedTokenizerFast":
    """Any text is encodable: the 256 bytes are in the vocabulary (Radford et al. 2019, section 2.2)."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    special = [PAD, BOS, END, *(f"<|{role}|>" for role in ROLES)]
    tokenizer = Tokenizer(models.BPE())
    # Digits one by one, so that numbers of any length are copied by the same rule.
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=BOS, eos_token=END, pad_token=PAD)
    fast.chat_template = CHAT_TEMPLATE
    return fast
