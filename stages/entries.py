"""The entries of params.yaml as types: corpora and where they come from, bases, runs and variants.
Fields have defaults as those of stages/settings.py.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from stages.settings import Strict


class Split(Strict):
    """Shares that are held out of every corpus, by a hash of a row's content.

    One pair for all: else a row held out of version 001 could be trained on in 002.
    """

    valid: float = Field(gt=0, lt=0.5)
    test: float = Field(gt=0, lt=0.5)


class Synthetic(Strict):
    """A demo corpus that `synthesize` writes from its task's grammar."""

    task: str
    file: str
    rows: int = Field(ge=1)
    level: int = Field(ge=1, description="which of the grammar's materials; 1 is the simplest")
    seed: int = Field(ge=0, le=2**32 - 1)


class Source(Strict):
    """A data set of the hub that `fetch` writes into a corpus file, at one revision."""

    task: str
    file: str
    hub_id: str = Field(min_length=1, description="OWNER/NAME, or a folder of data files")
    revision: str = Field(
        pattern="^[0-9a-f]{40}$", description="the 40-digit commit hash; a branch or tag would move"
    )
    name: str = Field("", description="configuration of the data set, where it has several")
    split: str = Field(description="the published split, or a part of it: train[:1000]")
    columns: dict[str, str] = Field(
        {}, description="the record's key for each column that is taken; empty = all as they are"
    )


class Augment(Strict):
    """Copies of training rows with noise in what is given; what should come out stays clean."""

    copies: int = Field(ge=1, description="noisy rows beside each row")
    character_noise: float = Field(
        gt=0, le=0.5, description="share of characters dropped, doubled, swapped or replaced"
    )
    seed: int = Field(ge=0, le=2**32 - 1)


Malformed = Literal["stop", "drop"]
UnknownKeys = Literal["tell", "stop"]


class Corpus(Strict):
    """One version of a task's data, or a part of one: two corpora may read one file.

    Cleaning is strict in a corpus that says nothing else: max_drop_fraction and malformed have
    defaults that are not neutral.
    """

    task: str
    file: str
    max_drop_fraction: float = Field(
        0.2, ge=0, le=1, description="share of the rows that may be dropped; more stop the stage"
    )
    malformed: Malformed = Field(
        "stop", description="what an unreadable line does: stop the stage, or be dropped"
    )
    columns: dict[str, str] = Field(
        {}, description="the record's key for each column of the file that has another name"
    )
    unknown_keys: UnknownKeys = Field(
        "tell", description="what a key of a record without a use does: be told, or stop the stage"
    )
    near_duplicates: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Jaccard similarity to an earlier row, from which on a row is dropped; "
        "0 = keep all",
    )
    categories: list[str] = Field(
        [], description="error types, constructs or kinds that are kept; empty = all"
    )
    max_characters: int = Field(
        0, ge=0, description="of source and target together; longer rows are left out; 0 = any"
    )
    max_samples: int = Field(0, ge=0, description="rows kept, from the first; 0 = all")
    instruction: str = Field(
        "", description="what the model is told to do, in place of the task's own words"
    )
    augment: Augment | None = None
    test_only: bool = Field(False, description="every row is a test row, none is trained on")
    valid_only: bool = Field(
        False,
        description="every row is a validation row, for runs that name this as their validation",
    )


class Base(Strict):
    """A base made here: a tokenizer trained on one corpus, and an untrained grouped-query Llama."""

    corpus: str
    split: Literal["gpt2", "atoms"] = Field(
        description="pre-tokenizer, across whose pieces BPE never merges. gpt2: words with the "
        "space before them; atoms: ASCII words and LaTeX commands, every other character and digit "
        "alone"
    )
    vocab_size: int = Field(
        ge=300, description="tokens, the 256 bytes and the special ones included"
    )
    hidden_size: int = Field(ge=8)
    num_hidden_layers: int = Field(ge=1)
    num_attention_heads: int = Field(ge=1)
    num_key_value_heads: int = Field(ge=1)
    intermediate_size: int = Field(ge=8)
    max_position_embeddings: int = Field(ge=32, description="tokens")
    initializer_range: float = Field(
        gt=0, description="standard deviation of the untrained weights"
    )
    seed: int = Field(ge=0, le=2**32 - 1)


class Run(BaseModel):
    """What a run starts from and learns; its own values of Options stand beside these keys."""

    model_config = ConfigDict(extra="allow", frozen=True, strict=True, allow_inf_nan=False)
    task: str
    corpus: str
    base: str
    parent: str
    preset: list[str] | str = []
    mix: dict[str, Annotated[float, Field(gt=0)]] = Field(
        {}, description="other corpora of the task, and how often an epoch has each of their rows"
    )
    replay: float = Field(
        0.0,
        ge=0,
        description="how often an epoch has each row of what the runs before were trained on",
    )
    validation: str = Field(
        "",
        description="a valid_only corpus by which the best weights are chosen; "
        "empty = the held-out share of what is trained on",
    )


RUN_KEYS = tuple(Run.model_fields)


class Variant(BaseModel):
    """Another way in which a run's model answers, scored as a run of its own; it trains nothing."""

    model_config = ConfigDict(extra="allow", frozen=True, strict=True, allow_inf_nan=False)
    task: str
    model_of: str = Field(description="the run whose weights answer")
    generation: dict[str, Any] = Field(
        description="what differs from how that run answers; as in Options"
    )


VARIANT_KEYS = tuple(Variant.model_fields)
