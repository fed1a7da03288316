"""Polish: forms that are read, inflection, the demo corpora, and how answers are scored."""

import json
import math
import random
from pathlib import Path

import pytest

from stages.corpus.examples import BadLine, Example
from stages.grammar import polish
from stages.records import Prediction
from stages.scoring import polish_text as measures
from stages.tasks.polish import corpus, score, synthetic

# The grammar. Typed from a dictionary; each differs from what one ending for all nouns of a gender
# would give.

NOUN_FORMS = """
student loc sg studencie   student nom pl studenci    student acc pl studentów   sąsiad loc sg sąsiedzie  sąsiad nom pl sąsiedzi
kolega dat sg koledze      kolega nom pl koledzy      kolega gen pl kolegów      kolega acc sg kolegę     aktor loc sg aktorze
aktor nom pl aktorzy       lekarz nom pl lekarze      lekarz gen pl lekarzy      nauczyciel voc sg nauczycielu
pies gen sg psa            pies dat sg psu            pies loc sg psie           pies acc pl psy          pies ins pl psami
koń gen sg konia           koń ins sg koniem          koń gen pl koni            koń dat pl koniom        koń loc pl koniach
ptak ins sg ptakiem        ptak dat pl ptakom         kot dat sg kotu            kot loc sg kocie         królik loc sg króliku
stół gen sg stołu          stół loc sg stole          stół acc sg stół           stół gen pl stołów       dom loc sg domu
list loc sg liście         obraz loc sg obrazie       ogród gen sg ogrodu        las loc sg lesie         las nom pl lasy
ołówek gen sg ołówka       ołówek ins sg ołówkiem     nóż nom pl noże            nóż gen pl noży          most loc sg moście
książka dat sg książce     książka gen pl książek     książka acc sg książkę     ręka dat sg ręce         ręka nom pl ręce
ręka gen pl rąk            noga dat sg nodze          noga gen pl nóg            droga gen pl dróg        szkoła loc sg szkole
szkoła gen pl szkół        siostra dat sg siostrze    siostra gen pl sióstr      matka gen pl matek       gazeta loc sg gazecie
kobieta dat sg kobiecie    lekcja gen sg lekcji       lekcja gen pl lekcji       kuchnia loc sg kuchni    kuchnia acc sg kuchnię
ulica loc sg ulicy         ulica gen pl ulic          łyżka loc sg łyżce         łyżka gen pl łyżek       okno loc sg oknie
okno gen pl okien          jabłko loc sg jabłku       jabłko gen pl jabłek       drzewo loc sg drzewie    miasto loc sg mieście
krzesło loc sg krześle     krzesło gen pl krzeseł     pióro gen pl piór          pole gen pl pól          zdjęcie gen pl zdjęć
zdjęcie dat sg zdjęciu     mieszkanie gen pl mieszkań mieszkanie ins pl mieszkaniami
"""
ADJECTIVE_FORMS = """
nowy m3 gen sg nowego   nowy m1 nom pl nowi   nowy m3 nom pl nowe
dobry m1 nom pl dobrzy   mały m1 nom pl mali   duży m1 nom pl duzi
wysoki m1 nom pl wysocy   wysoki f dat sg wysokiej   wysoki n nom sg wysokie
wysoki m3 ins sg wysokim   drogi m1 nom pl drodzy   krótki m1 nom pl krótcy
bogaty m1 nom pl bogaci   wesoły m1 nom pl weseli   zmęczony m1 nom pl zmęczeni
nowy m1 acc pl nowych   nowy f acc sg nową   nowy m2 acc sg nowego
nowy m3 acc sg nowy   ostatni f nom sg ostatnia   ostatni m3 ins pl ostatnimi
"""


def chunks(text: str, size: int) -> list[list[str]]:
    words = text.split()
    assert len(words) % size == 0
    return [words[at : at + size] for at in range(0, len(words), size)]


@pytest.mark.parametrize(("lemma", "case", "number", "form"), chunks(NOUN_FORMS, 4))
def test_nouns_are_inflected_with_their_alternations(lemma, case, number, form):
    assert polish.by_lemma(lemma).forms[case, number] == form


@pytest.mark.parametrize(("lemma", "gender", "case", "number", "form"), chunks(ADJECTIVE_FORMS, 5))
def test_adjectives_agree_with_gender_case_and_number(lemma, gender, case, number, form):
    assert polish.adjective(lemma, gender, case, number) == form


def test_a_past_tense_agrees_with_its_subject_and_aspects_come_in_pairs():
    read = next(verb for verb in polish.verbs() if verb.imperfective == "czytać")
    help_ = next(verb for verb in polish.verbs() if verb.perfective == "pomóc")
    care = next(verb for verb in polish.verbs() if verb.imperfective == "opiekować się")
    forms = [
        polish.past(*read.done, gender, number) for gender in ("m1", "f") for number in ("sg", "pl")
    ]
    assert forms == ["przeczytał", "przeczytali", "przeczytała", "przeczytały"]
    assert [polish.past(*help_.done, "f", number) for number in ("sg", "pl")] == [
        "pomogła",
        "pomogły",
    ]
    assert polish.past(*help_.done, "m1", "sg") == "pomógł"
    assert [polish.past(*care.past, gender, "sg") for gender in ("m1", "f", "n")] == [
        "opiekował się", "opiekowała się", "opiekowało się",
    ]  # fmt: skip
    assert len(polish.verbs()) == 11


def test_every_noun_has_fourteen_forms_and_every_sentence_a_verb_that_governs_its_object():
    assert len(polish.nouns()) > 45
    assert all(len(noun.forms) == 14 for noun in polish.nouns())
    drawn = [polish.sentence(random.Random(seed), 1 + seed % 2) for seed in range(300)]
    assert {sentence.tense for sentence in drawn} == {"present", "past", "done", "future"}
    for sentence in drawn:
        assert (
            sentence.object.noun.forms[sentence.verb.case, sentence.object_number] in sentence.text
        )


def test_a_text_without_its_diacritics_is_ascii():
    assert polish.plain("Zażółć gęślą jaźń. ŁÓDŹ") == "Zazolc gesla jazn. LODZ"


# Formats


def read(folder: Path, *records: object, suffix: str = "jsonl") -> list[Example | BadLine]:
    path = folder / f"x.{suffix}"
    lines = [
        record if isinstance(record, str) else json.dumps(record, ensure_ascii=False)
        for record in records
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return list(corpus.read(path, {}))


ASKED, ANSWER = (
    {"role": "user", "content": "Odmień.\nkot: celownik"},
    {"role": "assistant", "content": "kotu"},
)


def test_all_forms_of_one_task_are_the_same_conversation(tmp_path):
    examples = read(
        tmp_path,
        {"instruction": "Odmień.", "input": "kot: celownik", "output": "kotu"},
        {"prompt": [ASKED], "completion": [ANSWER]},
        {"prompt": ASKED["content"], "completion": "kotu"},
        {"messages": [ASKED, ANSWER]},
        {"text": "Instruction: Odmień.\n\nInput: kot: celownik\n\nOutput: kotu"},
    )
    assert len({json.dumps(corpus.show(example)) for example in examples}) == 1
    assert {corpus.group_key(example) for example in examples} == {"kot: celownik"}
    alone = read(tmp_path, {"instruction": "Kim był Mieszko I?", "output": "Księciem."})[0]
    assert corpus.show(alone)["messages"][0]["content"] == "Kim był Mieszko I?"


def test_lemma_form_and_tags_are_an_instruction_to_inflect(tmp_path):
    example = read(tmp_path, "książka\tksiążek\tN;GEN;PL", suffix="tsv")[0]
    shown = corpus.show(example)["messages"]
    assert shown[0]["content"] == "Odmień.\nksiążka: rzeczownik, dopełniacz, liczba mnoga"
    assert (shown[1]["content"], example.category) == ("książek", "inflection")


@pytest.mark.parametrize(
    ("record", "says"),
    [
        (
            {"prompt": [{"role": "boss", "content": "a"}], "completion": "b"},
            "role 'boss'; roles are system, developer, user, assistant, tool, function",
        ),
        ({"prompt": "a", "completion": " "}, '"completion" is empty'),
        (
            {"messages": [ASKED]},
            "the conversation ends with the user; its last message is the answer of the assistant",
        ),
        (
            {"messages": [ANSWER]},
            "message 1, the assistant's, comes first; put before it what it answers",
        ),
        ({"prompt": "a"}, 'no "completion"; see data/polish/README.md#formats'),
        ({"instruction": "a"}, 'no "output"; see data/polish/README.md#formats'),
        ({"output": "a"}, 'no "input"; see data/polish/README.md#formats'),
        ({"instruction": "a", "output": 3}, '"output" is a number; it is a text'),
        (
            {"instruction": "a", "output": "b", "category": 3},
            '"category" is a number; it is a word, or left out',
        ),
        (
            {"question": "a"},
            "'question': none of the forms of an instruction; see data/polish/README.md#formats",
        ),
        ("[1]", "a JSON list; a record is an object"),
    ],
)
def test_a_record_of_no_form_is_told_with_its_reason(tmp_path, record, says):
    found = read(tmp_path, record)[0]
    assert isinstance(found, BadLine)
    assert says in found.reason


def test_a_line_of_a_table_needs_three_filled_columns(tmp_path):
    found = read(tmp_path, "kot\tkotu", "kot\t\tN", suffix="tsv")
    assert [item.reason[:9] for item in found] == ["2 columns", "3 columns"]


# The demo corpora


def drawn(level: int, rows: int = 600) -> list[dict]:
    return [json.loads(line) for line in synthetic.lines(random.Random(level), rows, level)]


def test_a_level_has_different_rows_in_three_forms_and_the_second_brings_new_kinds(tmp_path):
    first, second = drawn(1), drawn(2)
    assert {record["category"] for record in first} == {"question", "inflection", "diacritics"}
    assert {record["category"] for record in second} == {
        "question",
        "inflection",
        "diacritics",
        "register",
    }
    assert {frozenset(record) for record in first} == {
        frozenset({"instruction", "input", "output", "category"}), frozenset({"messages", "category"}),
        frozenset({"prompt", "completion", "category"}),
    }  # fmt: skip
    examples = read(tmp_path, *first)
    assert len({json.dumps(corpus.show(example)["messages"][:-1]) for example in examples}) == len(
        first
    )
    assert list(synthetic.lines(random.Random(5), 50, 2)) == list(
        synthetic.lines(random.Random(5), 50, 2)
    )
    assert any("liczba mnoga" in json.dumps(record, ensure_ascii=False) for record in second)
    assert not any("liczba mnoga" in json.dumps(record, ensure_ascii=False) for record in first)


def test_the_answers_of_the_demo_corpora_are_right(tmp_path):
    checked = 0
    for example in read(tmp_path, *drawn(2)):
        if example.category == "question":
            assert example.target.lower() in example.source.lower()
        elif example.category == "diacritics":
            assert polish.plain(example.target) == corpus.group_key(example)
        elif example.category == "register":
            titles = [
                title in text.split()
                for text in (example.source, example.target)
                for title in ("Pan", "Pani", "Państwo")
            ]
            assert sum(titles) == 1
        checked += 1
    assert checked == 600


# Scores


def scored(pairs: list[tuple[str, str]], category: str = "question") -> tuple[list, list]:
    rows = [
        {
            "id": str(n),
            "category": category,
            "source": "x",
            "messages": [ASKED, {"role": "assistant", "content": reference}],
        }
        for n, (_, reference) in enumerate(pairs)
    ]
    return rows, [Prediction(str(n), "", answer, 2.0, 1) for n, (answer, _) in enumerate(pairs)]


def test_token_f1_counts_shared_words_whatever_their_case_and_punctuation():
    assert score.token_f1("W parku.", "w parku") == 1
    assert score.token_f1("duży pies", "duży czarny pies") == pytest.approx(0.8)
    assert score.token_f1("", "kot") == 0
    assert score.token_f1("?", "!") == 1
    rows, answers = scored([("kot", "kot"), ("kot", "pies")])
    assert score.headline(score.statistics(rows, answers).sum(axis=0)) == 0.5


def test_what_is_particular_to_polish_is_measured():
    rows, answers = scored(
        [("książek", "książek"), ("ksiazce", "książce"), ("ksiąska", "książka")], "inflection"
    )
    measured = score.details(rows, answers)
    assert measured["exact_match"] == measured["inflection_accuracy"] == pytest.approx(1 / 3)
    assert measured["diacritics_kept"] == pytest.approx(
        1 / 2
    )  # the third is another word, not a misspelt one
    size = sum(len(text.encode()) for text in ("książek", "książce", "książka"))
    assert measured["bits_per_byte"] == pytest.approx(6 / math.log(2) / size)
    assert "polish_share" not in measured
    assert "inflection_accuracy" not in score.details(*scored([("a", "b")]))


def test_the_language_of_answers_long_enough_is_told():
    sentences = [polish.sentence(random.Random(seed), 2).text for seed in range(60)]
    assert measures.polish_share(sentences) > 0.97
    assert (
        measures.polish_share(
            ["The old teacher reads a letter.", "Das ist ein neues Buch von mir.", "kot"]
        )
        == 0
    )
    assert measures.polish_share(["kot"]) is None


def test_the_baseline_is_the_most_frequent_answer(tmp_path):
    rows, _ = scored([("", "kot"), ("", "pies"), ("", "kot")])
    path = tmp_path / "train.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert {answer.answer for answer in score.baseline(path, rows, Path())} == {"kot"}


@pytest.mark.parametrize(
    "last", ["Output:", "**Odpowiedź:**", "### Odpowiedź", "<|assistant|>", "[/INST]", "---"]
)
def test_a_last_line_that_calls_for_the_answer_is_no_text_that_rows_have_in_common(last):
    sources = [f"Ile liter ma to słowo?\n{word}\n{last}" for word in ("kot", "pies")]
    assert [corpus.group_key(Example(1, source, "x", "")) for source in sources] == sources
    for given in ("kot: celownik", "[3, 1]", "#include <a>", "2+2"):
        assert corpus.group_key(Example(1, f"Powiedz.\n{given}", "x", "")) == given


def test_the_demos_rows_stay_on_the_side_of_the_split_where_they_are(tmp_path):
    for level in (1, 2):
        for example in read(tmp_path, *synthetic.lines(random.Random(level), 500, level)):
            assert corpus.group_key(example) == example.source.rpartition("\n")[2]


@pytest.mark.parametrize(
    ("line", "target"),
    [
        ("książka\tN;GEN;PL\tksiążek", "książek"),
        ("PKP\tN;NOM;SG\tPKP", "PKP"),
        ("N\tN\tN;NOM;SG", "N"),
        ("iść\tiść\tNFIN", "iść"),
        ("Ile to 2+2?\tcztery\t4", "'4' are no tags such as N;GEN;PL; "),
        ("Ile to 1+1?\tdwa\t2", "'2' are no tags such as N;GEN;PL; "),
        ("Czy to prawda?\ttak\tTAK", "'TAK' are no tags such as N;GEN;PL; "),
    ],
)
def test_only_tags_make_an_inflection_and_they_may_stand_before_the_form(tmp_path, line, target):
    (item,) = read(tmp_path, line, suffix="tsv")
    if isinstance(item, BadLine):
        assert item.reason.startswith(target)
    else:
        assert item.target == target
        assert ";" not in item.source


def test_conversations_that_end_alike_are_not_one_group():
    def talk(about: str) -> Example:
        turns = ({"role": "user", "content": about}, {"role": "assistant", "content": "."})
        thanks = {"role": "user", "content": "Dzięki"}
        return Example(1, f"{about}\nDzięki", "Proszę", "", (*turns, thanks))

    keys = {corpus.group_key(talk(about)) for about in ("kot", "pies")}
    assert len(keys) == 2
