"""Conversations of several turns in real chat templates: those of TRL's package, which is nowhere
else offline."""

import copy
import json
import re
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, pre_tokenizers, trainers
from tokenizers import models as models_of_tokens
from transformers import PreTrainedTokenizerFast

from stages import prepare
from stages.backends.mlx import loop
from stages.backends.mlx import models as mlx_models
from stages.backends.pytorch import loss, models
from stages.backends.shared.tokenizers import load_tokenizer
from stages.backends.shared.training_plan import encode_parts
from stages.commands import check
from stages.commands.read_corpus import read_corpus
from stages.corpus import clean
from stages.entries import Run
from stages.errors import UserError
from stages.params import load_params
from stages.records import read_rows
from stages.text import batches, chat, chat_templates, rendering, time_limit, tokenizer
from stages.text.chat import IGNORE
from stages.text.rendering import THINKING
from stages.text.spoken import Speech
from tests.test_prepare import enter
from tests.test_source_files import CALL, TOOL
from tests.test_traps import MISTRAL
from tests.tiny import SETTINGS, TEXTS, checkpoint

FOLDER = Path(find_spec("trl").submodule_search_locations[0], "chat_templates")
SHIPPED = sorted(path.stem for path in FOLDER.glob("*.jinja"))
SPECIAL = re.compile(r"<\|?[A-Za-z_｜▁/|]+?\|?>|\[/?[A-Z_]+\]|<[｜][^>]*[｜]>")

NO_END = ("glm4moe",)
"""Templates that end a turn with what begins the next one."""
THINK_FIRST = ("deepseek_r1_distill", "deepseekv3")
"""Templates whose generation prompt opens a think block that they leave out of the conversation."""

NO_TOOLS = [
    "cohere",
    "cohere2",
    "deepseek_r1_distill",
    "deepseekv3",
    "gemma",
    "gemma3",
    "idefics3",
    "lfm2",
    "llama3",
    "llava_next",
    "phi3",
    "phi3_5",
    "qwen2_5_vl",
    "smolvlm",
]
"""Templates that leave out tools, their calls or their results, or refuse them."""
TURNS = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "first question"},
    {"role": "assistant", "content": "first answer"},
    {"role": "user", "content": "second question"},
    {"role": "assistant", "content": "second answer"},
]
THOUGHTS = [
    *TURNS[1:2],
    {**TURNS[2], "reasoning_content": "first thought"},
    *TURNS[3:4],
    {**TURNS[4], "reasoning_content": "second thought"},
]
FORGETS_THOUGHTS = ("deepseek_r1_distill", "deepseekv3", "deepseekv3_training")
"""Templates that take what was thought out of every answer."""
THINKS_TOO_LATE = ("gemma4_v2", "llama3_1", "llama3_2")
"""Templates that write what is said, and a thought with it, behind a call, or not beside one."""
TOOL_TURNS = [
    {"role": "user", "content": "What is it like in Kyoto?"},
    {"role": "assistant", "content": "", "tool_calls": [{"id": "abcdefghi", **CALL}]},
    {"role": "tool", "content": "rain", "tool_call_id": "abcdefghi", "name": "weather"},
    {"role": "assistant", "content": "It is wet there."},
]


ONE_CALL = ("llama3_1", "llama3_2")
"""Templates that refuse several calls at once."""


def with_template(template: str):
    """A tokenizer that has what the template writes as special tokens."""
    fast = tokenizer.train(TEXTS, 400, "gpt2")
    special = [AddedToken(token, special=True) for token in sorted(set(SPECIAL.findall(template)))]
    fast.add_special_tokens({"additional_special_tokens": special})
    fast.chat_template = template
    return fast


def row(messages, **others):
    return {"id": "1", "category": "", "source": "", "messages": messages, **others}


def learned(fast, sequences) -> list[str]:
    """The text of each stretch of labels."""
    found = []
    for sequence in sequences:
        stretch: list[int] = []
        for label in [*sequence.labels, IGNORE]:
            if label != IGNORE:
                stretch.append(label)
            elif stretch:
                found.append(fast.decode(stretch))
                stretch = []
    return found


def words(fast, text: str) -> str:
    """Without special tokens and spaces around."""
    return fast.decode(fast(text, add_special_tokens=False)["input_ids"], True).strip()


@pytest.mark.parametrize("name", SHIPPED)
def test_every_answer_is_learned_with_its_end_and_nothing_else_in_every_template_of_trl(name):
    fast = with_template((FOLDER / f"{name}.jinja").read_text(encoding="utf-8"))
    if name.removesuffix("_training") in THINK_FIRST:
        with pytest.raises(UserError, match="does not continue its own prompt"):
            chat.encode(fast, row(TURNS), 5000, learn="all")
        return
    if name in NO_END:
        with pytest.raises(UserError, match="ends no turn with a special token"):
            chat.encode(fast, row(TURNS), 5000, learn="all")
        return
    sequences = chat.encode(fast, row(TURNS), 5000, learn="all")
    found = learned(fast, sequences)
    headers = r"^(final|to=user)?"  # of GPT-OSS and Muse, which name who is spoken to
    assert [re.sub(headers, "", words(fast, text)) for text in found] == [
        "first answer",
        "second answer",
    ]
    special = set(fast.all_special_tokens)
    assert all(any(text.endswith(token) for token in special) for text in found)
    # What an answer is learned after is what a model that answers is given.
    for sequence, turn in zip(reversed(sequences), (4, 2), strict=False):
        given = chat.prompt_ids(fast, TURNS[:turn])
        last = sequence.between[-1][1] if sequence.between else sequence.given
        assert sequence.ids[:last] == given
    whole = fast.decode(sequences[-1].ids)
    assert all(whole.count(turn["content"]) == 1 for turn in TURNS)
    assert learned(fast, chat.encode(fast, row(TURNS), 5000, learn="last")) == found[-1:]


@pytest.mark.parametrize("name", SHIPPED)
def test_a_call_of_a_tool_is_learned_in_the_templates_form_or_the_row_is_refused(name):
    fast = with_template((FOLDER / f"{name}.jinja").read_text(encoding="utf-8"))
    conversation = row(TOOL_TURNS, tools=[TOOL])
    if name in NO_END or name.removesuffix("_training") in NO_TOOLS:
        with pytest.raises(UserError, match=r"cannot write a conversation|ends no turn with"):
            chat.encode(fast, conversation, 5000, learn="all")
        return
    sequences = chat.encode(fast, conversation, 5000, learn="all")
    first, second = learned(fast, sequences)
    assert "weather" in first
    assert "Kyoto" in first
    assert "rain" not in first + second
    assert words(fast, second).endswith("It is wet there.")


@pytest.mark.parametrize("name", SHIPPED)
def test_of_several_calls_each_is_written_or_the_row_is_refused(name):
    fast = with_template((FOLDER / f"{name}.jinja").read_text(encoding="utf-8"))
    turns = copy.deepcopy(TOOL_TURNS[:2])
    cities = ("Kyoto", "Osaka", "Nara")
    turns[1]["tool_calls"] = [
        {
            **CALL,
            "id": f"abcdefgh{at}",
            "function": {"name": "weather", "arguments": {"city": city}},
        }
        for at, city in enumerate(cities)
    ]
    turns[0]["content"] = "What is it like in those cities?"
    if name.startswith("gptoss"):
        with pytest.raises(UserError, match="it leaves out the last of several calls; use another"):
            rendering.rendered(fast, turns, [TOOL])
        return
    if name.removesuffix("_training") in NO_TOOLS or name in ONE_CALL:
        with pytest.raises(UserError, match="cannot write a conversation of user, assistant: it "):
            rendering.rendered(fast, turns, [TOOL])
        return
    text = rendering.rendered(fast, turns, [TOOL])
    assert all(city in text for city in cities)


@pytest.mark.parametrize("name", SHIPPED)
def test_a_special_token_in_a_call_or_a_definition_is_its_characters(name):
    fast = with_template((FOLDER / f"{name}.jinja").read_text(encoding="utf-8"))
    end = next(iter(fast.added_tokens_decoder.values())).content
    number = fast.convert_tokens_to_ids(end)

    def written(said: str) -> list[int]:
        turns, tool = copy.deepcopy(TOOL_TURNS[:2]), copy.deepcopy(TOOL)
        turns[1]["tool_calls"][0]["function"]["arguments"] = {"city": f"Kyoto {said}"}
        tool["function"]["description"] = f"The weather {said}"
        return rendering.ids(fast, rendering.rendered(fast, turns, [tool]))

    if name.removesuffix("_training") in NO_TOOLS:
        with pytest.raises(UserError, match="cannot write a conversation of user, assistant: it "):
            written("usual")
        return
    usual = written("usual")
    with_end = written(end)
    assert with_end.count(number) == usual.count(number)
    assert rendering.MARK not in fast.decode(with_end)
    assert fast.decode(with_end).count(end) > fast.decode(usual).count(end)


@pytest.mark.parametrize("name", SHIPPED)
def test_definitions_are_written_or_missed_also_where_the_talk_names_the_tool(name):
    fast = with_template((FOLDER / f"{name}.jinja").read_text(encoding="utf-8"))
    turns = copy.deepcopy(TOOL_TURNS[:1])
    turns[0]["content"] += " Ask weather."
    if (stem := name.removesuffix("_training")) in NO_TOOLS and stem != "lfm2":  # without calls
        with pytest.raises(
            UserError, match="it leaves out the definitions of the tools; use anoth"
        ):
            rendering.rendered(fast, turns, [TOOL], asks=True)
        return
    text = rendering.rendered(fast, turns, [TOOL], asks=True)
    assert TOOL["function"]["description"] in text


def thinks(template: str):
    fast = with_template(template)
    fast.chat_template = THINKING + template
    return fast


@pytest.mark.parametrize("name", SHIPPED)
def test_what_was_thought_is_learned_in_the_templates_form_and_is_no_part_of_the_answer(name):
    fast = thinks((FOLDER / f"{name}.jinja").read_text(encoding="utf-8"))
    if name in FORGETS_THOUGHTS or name in NO_END:
        with pytest.raises(UserError, match=r"leaves out what the assistant thinks|ends no turn w"):
            chat.encode(fast, row(THOUGHTS), 5000, learn="all")
        return
    sequences = chat.encode(fast, row(THOUGHTS), 5000, learn="all")
    first, second = learned(fast, sequences)
    for text, which in ((first, "first"), (second, "second")):
        assert re.search(rf"{which} thought.*{which} answer", text, re.DOTALL)
        assert "question" not in text
    speech, last = Speech(fast), sequences[-1]
    answer = last.ids[last.between[-1][1] if last.between else last.given :]
    assert speech.text(answer) == "second answer"
    assert chat.end_of_turn(fast) in last.ids
    # Stopped while it thinks.
    thought = next(
        count for count in range(len(answer)) if "thought" in fast.decode(answer[:count])
    )
    assert speech.text(answer[:thought]) == ""


@pytest.mark.parametrize("name", SHIPPED)
def test_a_call_that_was_thought_over_is_learned_after_the_thought_or_refused(name):
    fast = thinks((FOLDER / f"{name}.jinja").read_text(encoding="utf-8"))
    turns = copy.deepcopy(TOOL_TURNS[:2])
    turns[1]["reasoning_content"] = "I must look at the sky"
    if name in NO_END:  # a call has an end of its own, but no other answer has
        return
    if name.removesuffix("_training") in NO_TOOLS or name in THINKS_TOO_LATE:
        with pytest.raises(UserError, match="cannot write a conversation"):
            chat.encode(fast, row(turns, tools=[TOOL]), 5000)
        return
    (sequence,) = chat.encode(fast, row(turns, tools=[TOOL]), 5000)
    (text,) = learned(fast, [sequence])
    assert text.index("I must look at the sky") < text.index("weather")
    said = Speech(fast).text(sequence.ids[sequence.given :])
    assert "sky" not in said
    assert "weather" in said
    assert "Kyoto" in said


def test_a_tag_in_the_middle_of_an_answer_is_part_of_it():
    fast = with_template((FOLDER / "qwen2_5.jinja").read_text(encoding="utf-8"))
    for answer in ("Close it with </think> and go on.", "the tag <think>x</think> is B"):
        assert Speech(fast).text(fast(answer)["input_ids"]) == answer


def test_an_answer_without_reasoning_in_a_template_that_wants_it_is_refused_with_what_it_wants():
    fast = thinks((FOLDER / "nemotron_3_nano.jinja").read_text(encoding="utf-8"))
    with pytest.raises(UserError, match="enable_thinking: true it needs reasoning before every a"):
        chat.encode(fast, row(TURNS), 5000)


@pytest.mark.parametrize("name", SHIPPED)
def test_an_answer_without_thought_is_read_as_it_was_written(name):
    fast = with_template((FOLDER / f"{name}.jinja").read_text(encoding="utf-8"))
    if name.removesuffix("_training") in THINK_FIRST or name in NO_END:
        return
    (sequence,) = chat.encode(fast, row(TURNS), 5000)
    assert Speech(fast).text(sequence.ids[sequence.given :]).strip() == "second answer"


def test_reasoning_that_the_prompt_excludes_is_refused_with_what_to_set():
    fast = with_template((FOLDER / "qwen3.jinja").read_text(encoding="utf-8"))
    with pytest.raises(UserError, match="set enable_thinking: true, because its answer comes afte"):
        chat.encode(fast, row(THOUGHTS), 5000)


def test_a_run_that_may_think_is_asked_so_and_keeps_a_template_that_says_so(tmp_path):
    folder = checkpoint(tmp_path / "base", "llama")
    (tmp_path / "base/chat_template.jinja").write_text(
        (FOLDER / "qwen3.jinja").read_text(encoding="utf-8"), encoding="utf-8"
    )
    prompts = {}
    for on in (False, True):
        settings = SETTINGS.model_copy(update={"enable_thinking": on})
        fast = load_tokenizer(folder, folder, settings)
        prompts[on] = rendering.rendered(fast, THOUGHTS[:1], asks=True)
        fast.save_pretrained(tmp_path / f"kept-{on}")
        kept = load_tokenizer(str(tmp_path / f"kept-{on}"), folder, settings)
        assert rendering.rendered(kept, THOUGHTS[:1], asks=True) == prompts[on]
        assert kept.chat_template == fast.chat_template
    assert prompts[False] == prompts[True] + "<think>\n\n</think>\n\n"


def test_a_template_whose_end_is_followed_by_more_than_spaces_ends_no_turn():
    fast = with_template("<end><think>")
    fast.chat_template = (
        "{% for m in messages %}{{ '<think>' if m['role'] == 'assistant' }}{{ m['content'] }}"
        "{% endfor %}"
    )
    with pytest.raises(UserError, match="ends no turn with a special token"):
        chat.encode(fast, row(TURNS[1:3]), 500)


def test_a_token_that_ends_what_is_said_ends_no_turn():
    fast = with_template("<end>")
    fast.add_tokens(["<formal>"])
    fast.chat_template = "{% for m in messages %}{{ m['content'] }}\n{% endfor %}"
    said = [TURNS[1], {"role": "assistant", "content": "so <formal>"}]
    with pytest.raises(UserError, match="ends no turn with a special token"):
        chat.encode(fast, row(said), 500)
    fast.chat_template = "{% for m in messages %}{{ m['content'] }}<end>{% endfor %}"
    assert learned(fast, chat.encode(fast, row(said), 500)) == ["so <formal><end>"]


def test_a_row_that_the_template_cannot_write_is_named():
    fast = with_template((FOLDER / "llama3.jinja").read_text(encoding="utf-8"))
    good, bad = (
        row(TURNS[1:3]),
        row(TOOL_TURNS, tools=[TOOL]) | {"id": "7f", "source": "Kyoto? " * 20},
    )
    run = Run(task="gec", corpus="gec-001", base="b", parent="b")
    with pytest.raises(
        UserError, match=r"^train row 7f \(Kyoto\? .*\[...\]\): the chat template of"
    ):
        encode_parts(fast, run, SETTINGS, {"train": [good, bad]})


def test_check_names_the_first_row_of_a_kind_that_the_template_cannot_write(inside):
    base = checkpoint(Path("base"), "llama")  # its template knows nothing of tools
    calls = {"role": "assistant", "content": "", "tool_calls": [CALL]}
    rows = [{"messages": [TURNS[1], last]} for last in (TURNS[2], calls)]
    enter("polish", "\n".join(map(json.dumps, rows)).encode(), "jsonl")
    params = load_params()
    kinds = read_corpus(params, params.corpora["polish-001"]).kinds
    with pytest.raises(
        UserError, match=r"^corpus.jsonl line 2: the chat template of .*calls of too"
    ):
        check.base_of(base, SETTINGS, kinds)
    del kinds[max(kinds, key=len)]
    assert len(kinds) == 1
    assert check.base_of(base, SETTINGS, kinds).startswith("llama, ")


LOOPS = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"


def test_a_template_that_loops_is_stopped_and_check_says_so(inside, monkeypatch):
    monkeypatch.setattr(rendering, "MOST_SECONDS", 0.5)
    base = checkpoint(Path("base"), "llama")
    config = Path(base, "chat_template.jinja")
    config.write_text(config.read_text(encoding="utf-8") + LOOPS, encoding="utf-8")
    says = "the chat template of base takes more than 0.5 s for one conversation, as nested loops do; use another chat_template"  # fmt: skip
    with pytest.raises(UserError, match=says):
        check.base_of(base, SETTINGS, {})
    with pytest.raises(UserError, match=says):
        chat.encode(load_tokenizer(base, base), row(TURNS[1:3]), 500)


@pytest.mark.parametrize("threads", [1, 2])
def test_what_takes_too_long_is_stopped_in_every_thread_and_nothing_after_it(threads):
    def loop() -> None:
        while True:
            pass

    def swallows() -> None:
        with suppress(time_limit.TookTooLong):
            loop()

    def limited(_: int) -> int:
        with pytest.raises(time_limit.TookTooLong):
            time_limit.within(0.1, loop)
        with pytest.raises(time_limit.TookTooLong):  # what ends before it can be stopped
            time_limit.within(0.1, lambda: time.sleep(0.8))
        with pytest.raises(time_limit.TookTooLong):  # what catches it and ends in its own way
            time_limit.within(0.1, swallows)
        time.sleep(2 * time_limit.LOOKS_SECONDS)
        return time_limit.within(5, lambda: 7)

    with ThreadPoolExecutor(threads) as pool:
        assert [*pool.map(limited, range(threads)), limited(0)] == [7] * (threads + 1)


def test_check_tries_an_answer_that_writes_the_tag_of_reasoning(inside):
    base = checkpoint(Path("base"), "llama")
    with_template((FOLDER / "qwen3.jinja").read_text(encoding="utf-8")).save_pretrained(base)
    tag = {"role": "assistant", "content": f"Write </think> behind it.{' more' * 500}"}
    rows = [{"messages": [TURNS[1], last]} for last in (TURNS[2], tag)]
    enter("polish", "\n".join(map(json.dumps, rows)).encode(), "jsonl")
    params = load_params()
    kinds = read_corpus(params, params.corpora["polish-001"]).kinds
    with pytest.raises(UserError, match=r"^corpus.jsonl line 2: the chat template") as refusal:
        check.base_of(base, SETTINGS, kinds)
    assert len(str(refusal.value)) < 700


def test_a_mark_of_ours_in_what_is_said_is_refused():
    fast = with_template("<end>")
    with pytest.raises(UserError, match=r"no character U\+10FFFE in a message; remove it"):
        chat.prompt_ids(fast, [{"role": "user", "content": f"a{rendering.MARK}b"}])


def test_a_word_that_a_template_has_of_its_own_does_not_hide_that_it_leaves_one_out():
    fast = with_template("<end>")
    fast.chat_template = (
        "{% for m in messages %}{{ m['role'] }}: "
        "{% for part in m['content'] %}{{ part['text'] }}{% endfor %}<end>{% endfor %}"
    )
    messages = [{"role": "user", "content": "ist"}, {"role": "assistant", "content": "ass"}]
    assert rendering.rendered(fast, messages) == "user: ist<end>assistant: ass<end>"


def test_what_a_template_refuses_or_leaves_out_is_told():
    fast = with_template((FOLDER / "llama3.jinja").read_text(encoding="utf-8"))
    with pytest.raises(
        UserError, match=r"cannot write .*: it leaves out the definitions of the to"
    ):
        chat.encode(fast, row(TOOL_TURNS, tools=[TOOL]), 5000, learn="all")
    fast.chat_template = (FOLDER / "lfm2.jinja").read_text(encoding="utf-8")
    with pytest.raises(UserError, match="it leaves out the calls of tools; use another chat_templ"):
        chat.encode(fast, row(TOOL_TURNS, tools=[TOOL]), 5000, learn="all")
    fast.chat_template = "{{ raise_exception('I write nothing') }}"
    with pytest.raises(UserError, match="system, user: it says: I write nothing; use another"):
        chat.prompt_ids(fast, TURNS[:2])
    fast.chat_template = "{% for m in messages %}{{ m['role'] }}{% endfor %}"
    with pytest.raises(UserError, match="of user: it leaves out what the user says"):
        chat.prompt_ids(fast, TURNS[1:2])
    fast.chat_template = None
    with pytest.raises(UserError, match="no chat template; set chat_template: to one of stages/te"):
        chat.prompt_ids(fast, TURNS[1:2])


@pytest.mark.parametrize(
    "template",
    [(FOLDER / "gemma.jinja").read_text(encoding="utf-8"), MISTRAL],
    ids=["gemma", "mistral"],
)
def test_what_the_system_says_stands_before_the_users_first_words_where_it_has_no_role(template):
    fast = with_template(template)
    assert "Be brief.\n\nfirst question" in rendering.rendered(fast, TURNS[:2], asks=True)
    assert rendering.rendered(fast, TURNS).count("Be brief.") == 1


@pytest.mark.parametrize("name", ["qwen2_5", "llama3"])
def test_a_special_token_in_what_is_said_is_its_characters(name):
    fast = with_template((FOLDER / f"{name}.jinja").read_text(encoding="utf-8"))
    end = "<|im_end|>" if name == "qwen2_5" else "<|eot_id|>"
    messages = [{**turn, "content": f"{turn['content']} {end}{end} and {end}"} for turn in TURNS]
    (sequence,) = chat.encode(fast, row(messages), 5000, learn="all")
    ends = sequence.ids.count(fast.convert_tokens_to_ids(end))
    (usual,) = chat.encode(fast, row(TURNS), 5000, learn="all")
    assert ends == usual.ids.count(fast.convert_tokens_to_ids(end))
    answers = [message["content"] for message in messages if message["role"] == "assistant"]
    assert learned(fast, [sequence]) == [answer + end for answer in answers]
    text = {"id": "1", "category": "", "source": "", "text": f"a {end} b"}
    (window,) = chat.windows(fast, text, 200, 100)
    assert fast.convert_tokens_to_ids(end) not in window.ids[1:-1]
    assert fast.decode(window.ids[1:-1]) == f"a {end} b"
    solution = {**text, "prompt": f"q {end}", "completions": [f"s {end}"], "labels": [1.0]}
    scored = chat.scored_steps(fast, solution, 500)
    of_template = chat.prompt_ids(fast, [{"role": "user", "content": "q"}])
    assert scored.ids.count(fast.convert_tokens_to_ids(end)) == of_template.count(
        fast.convert_tokens_to_ids(end)
    )


def test_a_token_that_would_span_prompt_and_answer_is_cut_where_the_prompt_ends():
    fast = tokenizer.train(["questionfirst answer"] * 9, 400, "gpt2")
    fast.chat_template = (
        "{% for m in messages %}{{ m['content'] }}{{ eos_token if m['role'] == 'assistant' }}"
        "{% endfor %}"
    )
    messages = [{"role": "user", "content": "question"}, TURNS[2]]
    whole = rendering.ids(fast, rendering.rendered(fast, messages))
    prompt = chat.prompt_ids(fast, messages[:1])
    assert whole[: len(prompt)] != prompt
    (sequence,) = chat.encode(fast, row(messages), 500)
    assert sequence.ids[: sequence.given] == prompt
    assert learned(fast, [sequence]) == [f"first answer{fast.eos_token}"]


def test_an_answer_that_a_tokenizer_writes_otherwise_after_its_prompt_is_refused():
    """One that puts a space before whatever it is given, as SentencePiece's do."""
    fast = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models_of_tokens.BPE()), eos_token="</s>"
    )
    backend = fast.backend_tokenizer
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always", split=False)
    backend.decoder = decoders.Metaspace(prepend_scheme="never")
    trainer = trainers.BpeTrainer(special_tokens=["</s>"], show_progress=False)
    backend.train_from_iterator(["q:first questionfirst answer"] * 9, trainer)
    fast.chat_template = (
        "{% for m in messages %}{{ 'q:' if m['role'] == 'user' }}{{ m['content'] }}"
        "{{ eos_token if m['role'] == 'assistant' }}{% endfor %}"
    )
    with pytest.raises(UserError, match="writes an answer otherwise after its prompt than in the"):
        chat.encode(fast, row(TURNS[1:3]), 500)


def test_turns_that_do_not_fit_together_become_sequences_of_their_own():
    fast = with_template((FOLDER / "qwen2_5.jinja").read_text(encoding="utf-8"))
    (whole,) = chat.encode(fast, row(TURNS), 5000, learn="all")
    assert len(whole.between) == 1
    limit = len(whole.ids) - 1
    first, second = chat.encode(fast, row(TURNS), limit, learn="all")
    assert learned(fast, [first, second]) == learned(fast, [whole])
    assert len(second.ids) == limit  # its prompt lost what it had to lose, and no more
    assert not first.between + second.between


def test_an_answer_that_is_excluded_is_no_label():
    fast = with_template((FOLDER / "qwen2_5.jinja").read_text(encoding="utf-8"))
    messages = copy.deepcopy(TURNS)
    messages[2]["train"] = False
    (sequence,) = chat.encode(fast, row(messages), 1000, learn="all")
    assert learned(fast, [sequence]) == ["second answer<|im_end|>"]


def test_labels_of_several_answers_are_those_of_a_batch():
    fast = with_template((FOLDER / "qwen2_5.jinja").read_text(encoding="utf-8"))
    sequences = chat.encode(fast, row(TURNS), 5000, learn="all") * 3
    for packed in (False, True):
        batch = batches.pad(sequences, 0, packed=packed)
        labels = [label for line in batch["labels"].tolist() for label in line if label != IGNORE]
        assert labels == [label for each in sequences for label in each.labels if label != IGNORE]
        assert (batch["input_ids"][batch["labels"] != IGNORE].tolist()) == labels


def test_a_run_says_whether_all_answers_are_learned_or_the_last():
    fast = with_template((FOLDER / "qwen2_5.jinja").read_text(encoding="utf-8"))
    run = Run(task="polish", corpus="c", base="b", parent="b")
    found = {}
    for learn in ("all", "last"):
        settings = SETTINGS.model_copy(update={"learn": learn, "max_length_tokens": 900})
        encoded, _ = encode_parts(fast, run, settings, {"train": [row(TURNS)]})
        found[learn] = learned(fast, encoded["train"])
    assert found == {"all": ["first answer<|im_end|>", *found["last"]], "last": found["all"][1:]}


def test_what_several_answers_cost_is_counted_alike_by_both_backends(tmp_path):
    folder = checkpoint(tmp_path / "base", "llama")
    fast = load_tokenizer(folder, folder)
    (sequence,) = chat.encode(fast, row(TURNS), 500, learn="all")
    (torchs,) = loss.row_nats(models.load_weights(Path(folder)).eval(), [sequence], 1, 0)
    (mlxs,) = loop.row_nats(mlx_models.load_weights(folder), [sequence], 1, 0)
    assert torchs[1] == mlxs[1] == sum(label != IGNORE for label in sequence.labels)
    assert torchs[0] == pytest.approx(mlxs[0], rel=1e-4)


@pytest.mark.parametrize("name", chat_templates.names())
def test_a_base_without_a_template_learns_by_one_of_ours(tmp_path, name):
    folder = checkpoint(tmp_path / "base", "llama")
    (tmp_path / "base/chat_template.jinja").unlink()
    with pytest.raises(UserError, match="has no chat template"):
        chat.prompt_ids(load_tokenizer(folder, folder), TURNS[:2])
    fast = load_tokenizer(folder, folder, SETTINGS.model_copy(update={"chat_template": name}))
    if name == "chatml":
        fast.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    (sequence,) = chat.encode(fast, row(TURNS), 500, learn="all")
    end = "<|im_end|>" if name == "chatml" else fast.eos_token
    assert learned(fast, [sequence]) == [f"first answer{end}", f"second answer{end}"]


def test_a_conversation_whose_earlier_question_is_tested_is_not_trained_on(inside):
    def turns(*questions):
        return [
            message
            for question in questions
            for message in (
                {"role": "user", "content": question},
                {"role": "assistant", "content": f"answer to {question}"},
            )
        ]

    alone = [turns(f"question {n}") for n in range(40)]
    after = [turns(f"question {n}", f"more {n}") for n in range(40)]
    lines = [{"messages": messages} for messages in alone + after]
    written = "\n".join(json.dumps(line) for line in lines)
    enter("polish", written.encode(), "jsonl", max_drop_fraction=0.9)
    prepare.main("polish-001")
    held_out, trained = set(), set()
    for part, asked in (("test", held_out), ("valid", held_out), ("train", trained)):
        for each in read_rows(Path(f"data/prepared/polish/{part}/polish-001.jsonl")):
            questions = clean.question_digests(each)
            asked.update(questions if part == "train" else questions[-1:])
    assert held_out
    assert trained
    assert not held_out & trained
