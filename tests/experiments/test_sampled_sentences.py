"""Labelled sentences: whatever is wrong with a source is named, and the grammar's labels stay what they are."""

import hashlib
import subprocess
import sys
import warnings
from collections import Counter

import pytest
from validate.sampled.grammar import PAIRS, PHENOMENA, grammar_sentences
from validate.sampled.sentences import COLUMNS, DataError, Sentence, load_sentences

datasets = pytest.importorskip("datasets", reason="pip install datasets")

GOOD = "gj04\t1\t\tThe pond froze solid."
BAD = "gj04\t0\t*\tThe pond solid froze."


def written(folder, *lines):
    path = folder / "sentences.tsv"
    path.write_bytes("".join(f"{line}\n" for line in lines).encode())
    return str(path)


def refusal(source):
    with pytest.raises(DataError) as caught:
        load_sentences(str(source))
    return str(caught.value)


# The file.


AWKWARD = (
    Sentence('He said "no.', True, "a-1", "sentences.tsv, line 1"),
    Sentence('"No" he said".', False, "b-2", "sentences.tsv, line 2"),
    Sentence("It's a café\u2028of sorts, isn't it?", True, "", "sentences.tsv, line 3"),
    Sentence("Is sorts it.", False, "c_3", "sentences.tsv, line 4"),
)
AWKWARD_LINES = (
    'a-1\t1\t\tHe said "no.',
    'b-2\t0\t*?\t"No" he said".',
    "\t1\t?\t It's a café\u2028of sorts, isn't it? ",
    "c_3\t0\t??\tIs sorts it.",
)


@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("end", ["", "newline", "blank lines"])
def test_a_file_is_read_as_it_is_written(tmp_path, mark, newline, end):
    path = tmp_path / "sentences.tsv"
    ending = {"": "", "newline": newline, "blank lines": newline * 3}[end]
    path.write_bytes((mark + newline.join(AWKWARD_LINES) + ending).encode())
    assert load_sentences(str(path)) == list(AWKWARD)


def test_a_sentence_twice_is_returned_once(tmp_path):
    path = written(tmp_path, GOOD, BAD, GOOD.replace("gj04", "cj99"))
    sentences = load_sentences(path)
    assert [s.text for s in sentences] == ["The pond froze solid.", "The pond solid froze."]
    assert sentences[0].source == "gj04"


def test_a_file_without_any_marks_is_fine(tmp_path):
    path = written(tmp_path, GOOD, BAD.replace("*", ""))
    assert [s.acceptable for s in load_sentences(path)] == [True, False]


def test_the_grammar_survives_a_file(tmp_path):
    lines = [f"{s.source}\t{s.acceptable:d}\t\t{s.text}" for s in grammar_sentences()]
    back = load_sentences(written(tmp_path, *lines))
    assert [(s.text, s.acceptable, s.source) for s in back] == [
        (s.text, s.acceptable, s.source) for s in grammar_sentences()
    ]


@pytest.mark.parametrize(
    ("line", "found", "remedy"),
    [
        ("gj04\t1\tThe pond froze.", "3 instead of 4 columns", "one tab between columns"),
        ("gj04\t1\t\tThe pond\tfroze.", "5 instead of 4 columns", "none into a sentence"),
        ("gj04 1 The pond froze.", "1 instead of 4 columns", "source, label, mark, sentence"),
        ("", "1 instead of 4 columns", "one tab between columns"),
        ("gj04\tyes\t\tThe pond froze.", "the label is 'yes'", "write 1 (acceptable) or 0"),
        ("gj04\t-1\t\tThe pond froze.", "the label is '-1'", "write 1 (acceptable) or 0"),
        ("gj04\t\t\tThe pond froze.", "the label is ''", "write 1 (acceptable) or 0"),
        ("gj04\t1\t\t ", "the sentence is empty", "write it or remove the line"),
        (
            "gj04\t1\t*\tThe pond froze.",
            "the label is 1 (acceptable) but the mark is '*'",
            "correct",
        ),
        ("gj04\t1\t?*\tThe pond froze.", "but the mark is '?*'", "correct one of them"),
        (
            "gj04\t0\t\tThe pond froze.",
            "0 (unacceptable) but there is no mark",
            "write * as the mark",
        ),
        (
            GOOD.replace("\t1\t", "\t0\t*"),
            "labelled 0 here and 1 in sentences.tsv, line 1",
            "keep the row with the right label",
        ),
    ],
)
def test_a_bad_line_is_named(tmp_path, line, found, remedy):
    path = written(tmp_path, GOOD, BAD, line, BAD.replace("pond", "lake"))
    message = refusal(path)
    assert message.startswith(f"{path}: 1 problem:\n  sentences.tsv, line 3: ")
    assert found in message and remedy in message


def test_a_header_is_named(tmp_path):
    message = refusal(written(tmp_path, "source\tlabel\tmark\tsentence", GOOD, BAD))
    assert (
        "line 1: the label is 'label'" in message and "remove the line if it is a header" in message
    )


def test_many_problems_are_one_message(tmp_path):
    bad = [BAD.replace("0\t*", "1\t*").replace("pond", f"pond {i}") for i in range(4)]
    message = refusal(written(tmp_path, GOOD, "x", *bad, "gj04\t2\t\tx", "gj04\t1\t\t"))
    assert "7 problems, the first 5:" in message
    assert [line.split(":")[0] for line in message.splitlines()[1:]] == [
        f"  sentences.tsv, line {number}" for number in range(2, 7)
    ]


def test_glues_unlabelled_file_is_named(tmp_path):
    message = refusal(written(tmp_path, "index\tsentence", "0\tBill whistled past the house."))
    assert "sentences.tsv, line 1" in message
    assert "GLUE's test.tsv, which has no labels; use GLUE's train.tsv or dev.tsv" in message


def test_a_missing_file_a_folder_and_an_empty_file_are_named(tmp_path):
    choices = "choose grammar, cola, or a TSV in CoLA's format"
    missing = refusal(tmp_path / "nowhere.tsv")
    assert (
        f"{tmp_path / 'nowhere.tsv'}' were looked for as a file" in missing and choices in missing
    )
    assert f"{tmp_path} is a folder; pass a file" in refusal(tmp_path)
    for content in ("", "\ufeff", "\r\n \n"):
        (tmp_path / "empty.tsv").write_text(content)
        message = refusal(tmp_path / "empty.tsv")
        assert f"{tmp_path / 'empty.tsv'} is empty" in message and choices in message


def test_a_file_that_cannot_be_read_is_named(tmp_path, monkeypatch):
    def denied(path):
        raise PermissionError(13, "Permission denied")

    path = written(tmp_path, GOOD, BAD)
    monkeypatch.setattr("pathlib.Path.read_bytes", denied)
    assert f"{path} could not be read (Permission denied); make it readable" in refusal(path)


def test_another_encoding_is_named(tmp_path):
    path = tmp_path / "sentences.tsv"
    path.write_bytes(f"{GOOD}\n{BAD}\ncj99\t1\t\tThe café closed.\n".encode("latin1"))
    message = refusal(path)
    assert f"{path}, line 3 is not UTF-8 (byte 0xe9)" in message and "iconv" in message


def test_every_line_of_another_encoding_is_counted(tmp_path):
    path = tmp_path / "sentences.tsv"
    path.write_bytes(f"cj99\t1\t\tThe café closed.\n{BAD}\ncj99\t1\t\tThe café.\n".encode("latin1"))
    assert f"{path}, line 1 and 1 more are not UTF-8 (byte 0xe9)" in refusal(path)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_utf_16_gets_its_own_advice(tmp_path, encoding):
    path = tmp_path / "sentences.tsv"
    path.write_bytes(f"{GOOD}\n{BAD}\n".encode(encoding))
    assert (
        f"is not UTF-8 but UTF-16, it seems; convert it with: iconv -f utf-16 -t utf-8 {path}"
        in (refusal(path))
    )


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        (["1\tIt froze.", "0\tFroze it."], "has 2 columns instead of 4"),
        (["It froze.\t1", "Froze it.\t0"], "has 2 columns instead of 4"),
        (["sentence\tlabel", "It froze.\t1", "Froze it.\t0"], "has 2 columns and a header"),
        (["label\tsentence", "1\tIt froze.", "0\tFroze it."], "has 2 columns and a header"),
        (["a\t1\tIt froze.", "b\t0\tFroze it."], "has 3 columns instead of 4"),
    ],
)
def test_another_number_of_columns_is_converted_as_the_message_says(tmp_path, lines, found):
    path = written(tmp_path, *lines)
    message = refusal(path)
    assert found in message and "source, label, mark, sentence" in message
    command = message[message.index("awk") :].replace("NEW.tsv", str(tmp_path / "NEW.tsv"))
    subprocess.run(command, shell=True, check=True)
    made = load_sentences(str(tmp_path / "NEW.tsv"))
    assert [(s.text, s.acceptable) for s in made] == [("It froze.", True), ("Froze it.", False)]


def converted(message, tmp_path):
    """What is in the file that the command in the message makes."""
    command = message[message.index("onvert it with: ") :].partition(": ")[2]
    command = command.replace("NEW.tsv", str(tmp_path / "NEW.tsv"))
    subprocess.run(command, shell=True, check=True)
    return load_sentences(str(tmp_path / "NEW.tsv"))


@pytest.mark.parametrize("end", ["", "\r", "\n"])
def test_carriage_returns_alone_are_converted_as_the_message_says(tmp_path, end):
    path = tmp_path / "sentences.tsv"
    path.write_bytes(f"{GOOD}\r{BAD}{end}".encode())
    message = refusal(path)
    assert f"{path} ends its lines with carriage returns only" in message
    made = converted(message, tmp_path)
    assert [one.text for one in made] == ["The pond froze solid.", "The pond solid froze."]


@pytest.mark.parametrize(("separator", "name"), [(",", "commas"), (";", "semicolons")])
def test_other_separators_are_converted_as_the_message_says(tmp_path, separator, name):
    lines = ['gj04|1||"It froze, solid; yes."', "", 'gj04|0|*|"Said ""it"" froze."']
    lines = [line.replace("|", separator) for line in lines]
    message = refusal(written(tmp_path, *lines[:1], *lines[2:]))
    assert f"has {name} between columns and no tabs" in message and COLUMNS in message
    made = converted(message, tmp_path)
    assert [one.text for one in made] == ["It froze, solid; yes.", 'Said "it" froze.']
    for more in (lines, [f"sentence{separator}label", f"It froze.{separator}1"]):
        assert f"has {name} between columns" in refusal(written(tmp_path, *more))


@pytest.mark.parametrize(
    "lines",
    [
        ["Hello, world.", "It froze, they say."],
        ["Hello; world.", "It froze; they say."],
        ["gj04,1,,It froze.", "gj04,0,*,Froze, it."],
        ["0", "1"],
    ],
)
def test_text_without_columns_of_one_number_and_labels_is_not_converted(tmp_path, lines):
    message = refusal(written(tmp_path, *lines))
    assert "between columns and no tabs" not in message
    assert "line 1: 1 instead of 4 columns" in message


def test_a_sentence_may_have_commas_and_a_line_without_tabs_is_named(tmp_path):
    some = GOOD.replace("froze", "froze, they say,"), BAD
    assert len(load_sentences(written(tmp_path, *some))) == 2
    message = refusal(written(tmp_path, *some, "No tabs, here."))
    assert "line 3: 1 instead of 4 columns" in message


def test_json_lines_get_a_hint(tmp_path):
    message = refusal(written(tmp_path, '{"sentence": "It froze.", "label": 1}'))
    assert "holds JSON; --data takes four columns" in message and "jq -r" in message
    assert "--task" in message


@pytest.mark.parametrize(("line", "label"), [(GOOD, 1), (BAD, 0)])
def test_one_label_is_not_enough(tmp_path, line, label):
    message = refusal(written(tmp_path, line, line.replace("pond", "lake")))
    assert f"all 2 sentences are labelled {label}; bring sentences with the other label" in message


# Contradicted labels.


def many(*extra):
    """200 good lines of a file, and others."""
    lines = [line.replace("pond", f"pond {i}") for i in range(100) for line in (GOOD, BAD)]
    return [*lines, *extra]


def test_a_few_contradictions_are_left_out_with_a_warning(tmp_path):
    starred, both = (
        "gj04\t1\t*\tThe lake froze.",
        BAD.replace("pond", "pond 7").replace("0\t*", "1\t"),
    )
    path = written(tmp_path, *many(starred, both))
    with pytest.warns(UserWarning, match="left out for 2 contradicted labels") as caught:
        sentences = load_sentences(path)
    assert "labelled 1 here and 0 in sentences.tsv, line 16" in str(caught[0].message)
    assert "sentences.tsv, line 201: the label is 1" in str(caught[0].message)
    texts = {s.text for s in sentences}
    assert len(texts) == len(sentences) == 199
    assert not texts & {"The lake froze.", "The pond 7 solid froze."}


def test_more_contradictions_are_an_error(tmp_path):
    starred = [f"gj04\t1\t*\tThe lake {i} froze." for i in range(3)]
    assert "3 problems:" in refusal(written(tmp_path, *many(*starred)))


def test_exchanged_labels_are_an_error(tmp_path):
    flipped = [line.translate({ord("0"): "1", ord("1"): "0"}) for line in (GOOD, BAD)]
    assert "4 problems:" in refusal(
        written(tmp_path, *flipped, *(line.replace("pond", "lake") for line in flipped))
    )


def test_a_clean_file_warns_of_nothing(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(load_sentences(written(tmp_path, *many()))) == 200


# The hub.


def serve(monkeypatch, **columns):
    """``load_dataset`` returns a real, local dataset and records how it was called."""
    calls = []

    def load_dataset(*arguments, **options):
        calls.append((arguments, options))
        return datasets.Dataset.from_dict(columns)

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    return calls


def test_cola_comes_from_the_hub(monkeypatch):
    texts = ["They drank the pub dry.", "They drank the pub.", " They drank. "]
    calls = serve(monkeypatch, sentence=texts, label=[1, 0, 1], idx=[0, 1, 2])
    assert load_sentences("cola") == [
        Sentence("They drank the pub dry.", True, "cola", "cola train, row 0"),
        Sentence("They drank the pub.", False, "cola", "cola train, row 1"),
        Sentence("They drank.", True, "cola", "cola train, row 2"),
    ]
    assert calls == [(("nyu-mll/glue", "cola"), {"split": "train"})]


def test_a_bad_row_of_the_hub_is_named(monkeypatch):
    serve(monkeypatch, sentence=["One.", "Two."], label=[1, -1], idx=[4, 9])
    message = refusal("cola")
    assert "the train split of nyu-mll/glue cola: 1 problem" in message
    assert "cola train, row 9: the label is '-1'" in message


def test_a_missing_column_of_the_hub_is_named(monkeypatch):
    serve(monkeypatch, sentence=["One."], target=[1])
    message = refusal("cola")
    assert "has no column idx or label" in message and "train.tsv" in message


@pytest.mark.parametrize(
    "error",
    [
        ConnectionError("Couldn't reach 'nyu-mll/glue' on the Hub"),
        ValueError("Couldn't find cache for nyu-mll/glue"),
        datasets.exceptions.DatasetNotFoundError("Dataset doesn't exist"),
        RuntimeError(),
    ],
)
def test_without_a_network_the_message_says_how_to_bring_cola(monkeypatch, error):
    def load_dataset(*arguments, **options):
        raise error

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    message = refusal("cola")
    assert (
        "nyu-mll/glue cola was looked for in the local Hugging Face cache and on the hub" in message
    )
    assert (str(error) or "RuntimeError") in message
    assert "CoLA/train.tsv" in message and "pass its path" in message


def test_without_datasets_the_message_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    message = refusal("cola")
    assert "'cola' needs the package datasets: pip install datasets" in message
    assert "pass its path" in message


def test_the_grammar_needs_no_datasets(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    assert load_sentences("grammar") == grammar_sentences()


# The grammar.


FEW, MANY = 2 * PAIRS * len(PHENOMENA), 7000


@pytest.fixture(scope="module")
def sentences():
    return grammar_sentences()


@pytest.fixture(scope="module", params=[FEW, MANY])
def few_or_many(request):
    return grammar_sentences(request.param)


@pytest.mark.slow  # thousands of sentences
def test_as_many_as_are_wanted_are_written():
    assert len(grammar_sentences(FEW + 1)) == FEW + 2 * len(PHENOMENA)  # each phenomenon one more
    assert len(grammar_sentences(FEW - 1000)) == len(grammar_sentences(FEW)) == FEW >= 2000
    all_of_them = grammar_sentences(1_000_000)
    assert MANY < len(all_of_them) == len(grammar_sentences(len(all_of_them))) < 10_000


def test_size_and_shape(few_or_many):
    sentences = few_or_many
    assert len(sentences) == len({s.text for s in sentences}) in (FEW, MANY)
    for sentence in sentences:
        assert 3 <= len(sentence.text.split()) <= 12, sentence
        assert sentence.text[0].isupper() and sentence.text[-1] in ".?", sentence
        assert "  " not in sentence.text and "\t" not in sentence.text, sentence
    words = {word.strip(".,?").lower() for s in sentences for word in s.text.split()}
    assert len(words) < 400


def test_every_phenomenon_has_both_labels_equally(few_or_many):
    counts = Counter((s.source, s.acceptable) for s in few_or_many)
    each = len(few_or_many) // (2 * len(PHENOMENA))
    expected = {(name, label): each for name in PHENOMENA for label in (True, False)}
    assert counts == expected and len(PHENOMENA) >= 8


def test_neighbours_are_minimal_pairs(few_or_many):
    """At most two words of a sentence are not in its partner, the order aside."""
    sentences = few_or_many
    for one, two in zip(sentences[::2], sentences[1::2], strict=True):
        assert one.place == two.place and one.source == two.source
        assert one.acceptable != two.acceptable
        a, b = (Counter(s.text.strip(".?").lower().split()) for s in (one, two))
        assert max((a - b).total(), (b - a).total()) <= 2, (one, two)


def test_the_order_says_nothing(few_or_many):
    first = sum(s.acceptable for s in few_or_many[::2]) / len(few_or_many[::2])
    assert 0.45 < first < 0.55


@pytest.mark.parametrize("start", [0, 1, 333, 2600])
def test_any_200_in_a_row_are_a_fair_mixture(sentences, start):
    part = sentences[start : start + 200]
    assert 0.49 <= sum(s.acceptable for s in part) / len(part) <= 0.51
    counts = Counter(s.source for s in part)
    assert set(counts) == set(PHENOMENA) and max(counts.values()) - min(counts.values()) <= 2


def test_most_words_are_on_both_sides(few_or_many):
    """Only forms of pronouns and a negation at the beginning give a label away."""
    right, wrong = (
        {word for s in few_or_many if s.acceptable is label for word in s.text.strip(".?").split()}
        for label in (True, False)
    )
    assert right - wrong == {"He", "She", "They", "We", "No", "her", "him", "me", "them", "us"}
    assert wrong - right == {"Her", "Him", "Me", "Them", "Us", "we"}


def test_the_list_does_not_change_unnoticed(sentences):
    lines = "".join(f"{s.source}\t{s.acceptable:d}\t{s.text}\n" for s in sentences)
    digest = hashlib.sha256(lines.encode()).hexdigest()
    assert digest == "5394811c59df9485e71d329ceee7379a5eb73dee51daf409fcd4812ad0691ce4"


JUDGED = (
    ("The tall teachers smile in the garden.", True),
    ("The tall teachers smiles in the garden.", False),
    ("The farmer that the lawyers help is tall.", True),
    ("The farmer that the lawyers help are tall.", False),
    ("The book near the cars is dirty.", True),
    ("The book near the cars are dirty.", False),
    ("The painter borrowed a picture yesterday.", True),
    ("The painter borrowed a pictures yesterday.", False),
    ("The king said that the daughter blamed herself.", True),
    ("The king said that the daughter blamed himself.", False),
    ("The girls said that the man described himself.", True),
    ("The girls said that the man described themselves.", False),
    ("The writer damaged the clock at the station.", True),
    ("The writer damaged at the station.", False),
    ("The dancer laughed today.", True),
    ("The dancer laughed the car today.", False),
    ("The artist will destroy the picture.", True),
    ("The artist will destroying the picture.", False),
    ("No student that the artist helps has ever mentioned the lamp.", True),
    ("The student that no artist helps has ever mentioned the lamp.", False),
    ("What did the farmer think that the driver damaged?", True),
    ("What did the farmer think that the driver damaged the lamp?", False),
    ("Which car did the singer and the student mention?", True),
    ("Which car did the singer mention the student and?", False),
    ("When did the singer describe the chair?", True),
    ("When the singer did describe the chair?", False),
    ("The dancer helped him last week.", True),
    ("The dancer helped he last week.", False),
    ("There are three books at the station.", True),
    ("There is three books at the station.", False),
    ("The brother is not cheerful, is he?", True),
    ("The brother is not cheerful, is she?", False),
    ("The writer enjoyed damaging the lamp.", True),
    ("The writer enjoyed to damage the lamp.", False),
)


def test_judged_by_hand(sentences):
    labels = {s.text: s.acceptable for s in sentences}
    assert [(text, labels[text]) for text, _ in JUDGED] == list(JUDGED)
