"""Sentences with acceptability labels, from one of three sources.

    grammar    the embedded default, minimal pairs that ``grammar.py`` writes
    cola       GLUE's CoLA, the train split, through the package ``datasets``
    a path     a file in CoLA's own format, as CoLA and GLUE distribute it

That format is UTF-8 text without a header and with four columns separated by tabs: the code of the publication, the
label (1 acceptable, 0 not), the mark that its author gave the sentence ("*", "??", nothing) and the sentence. Quotes
have no meaning.

Each sentence is returned once. A sentence whose label is contradicted, by its mark or by another row, is never
returned: a few are left out with a warning, more are an error.
"""

from __future__ import annotations

import codecs
import csv
import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from validate.errors import RunError
from validate.sampled.grammar import grammar_sentences
from validate.sampled.sentence import Sentence

__all__ = ["DataError", "Sentence", "load_sentences"]

GRAMMAR = "grammar"
COLA = "cola"
HUB_DATASET = ("nyu-mll/glue", "cola")
COLUMNS = "source, label, mark, sentence"
CHOICES = f"choose {GRAMMAR}, {COLA}, or a TSV in CoLA's format (four columns: {COLUMNS})"
SEPARATORS = {",": "commas", ";": "semicolons"}
# CoLA itself has a few: one string with two readings, of which the author starred one (at least three in GLUE's
# dev.tsv, of 1,043 rows). A file in which somebody mixed up labels has more than this share.
CONTRADICTED_SHARE = 0.01
PROBLEMS_SHOWN = 5


class DataError(RunError):
    """Sentences could not be loaded; the message says what was found where, and what to do."""


@dataclass(frozen=True)
class _Row:
    number: int
    source: str
    label: str
    mark: str
    text: str


def load_sentences(source: str, wanted: int = 0) -> list[Sentence]:
    """The sentences of ``source``: "grammar", which writes as many as are ``wanted``, "cola", or the path of a TSV.

    Raises:
        DataError: they are missing, unreadable, unlabelled, mislabelled, or all of one label.
    """
    if source == GRAMMAR:
        return grammar_sentences(wanted)
    return _from_hub() if source == COLA else _from_file(Path(source))


def _from_file(path: Path) -> list[Sentence]:
    # Only line feeds end a line; str.splitlines would also split inside sentences.
    lines = _text_of(path).replace("\r\n", "\n").rstrip("\n").split("\n")
    _check_format(path, lines)
    rows: list[_Row] = []
    problems: dict[int, str] = {}
    for number, line in enumerate(lines, start=1):
        columns = line.split("\t")
        if len(columns) == 4:
            code, label, mark, text = columns
            rows.append(_Row(number, code, label, mark.strip(), text.strip()))
        else:
            problems[number] = (
                f"{len(columns)} instead of 4 columns ({COLUMNS}); "
                "put one tab between columns and none into a sentence"
            )
    return _checked(str(path), f"{path.name}, line", rows, problems)


def _check_format(path: Path, lines: list[str]) -> None:
    """
    Raises:
        DataError: the file as a whole is of another format; the message says how to convert it.
    """
    first = lines[0].split("\t")
    if len(lines) == 1 and "\r" in lines[0]:
        raise DataError(
            f"{path} ends its lines with carriage returns only, as old Macs did; convert it with: "
            f"tr '\\r' '\\n' < {path} > NEW.tsv"
        )
    if first == ["index", "sentence"]:
        raise DataError(
            f"{path}, line 1 is the header (index, sentence) of GLUE's test.tsv, which has no labels; "
            "use GLUE's train.tsv or dev.tsv"
        )
    if lines[0].lstrip().startswith(("{", "[")) and len(first) == 1:
        raise DataError(
            f"{path} holds JSON; --data takes four columns separated by tabs ({COLUMNS}). Convert it, for fields "
            f'sentence and label for instance with: jq -r \'["mine", .label, "", .sentence] | @tsv\' {path} > NEW.tsv. '
            "Prompts with candidate responses of your own go to --protocol enumerated --task"
        )
    if separator := _separator(lines):
        raise DataError(
            f"{path} has {SEPARATORS[separator]} between columns and no tabs; --data takes four columns separated by "
            f"tabs ({COLUMNS}, no header). Convert it with: python -c 'import csv, sys; "
            f'[print(*row, sep="\\t") for row in csv.reader(sys.stdin, delimiter="{separator}")]\' < {path} > NEW.tsv'
        )
    if len(first) in (2, 3) and all(line.count("\t") + 1 == len(first) for line in lines):
        label, sentence, header = _columns([line.split("\t") for line in lines])
        skip = "NR > 1 " if header else ""
        raise DataError(
            f"{path} has {len(first)} columns{' and a header' if header else ''} instead of 4 ({COLUMNS}, no "
            f"header). Convert it, after a look at which column is which, for instance with: awk -F'\\t' -v OFS='\\t' "
            f'\'{skip}{{print "mine", ${label}, "", ${sentence}}}\' {path} > NEW.tsv'
        )


def _separator(lines: list[str]) -> str | None:
    """What is between columns instead of tabs: it makes as many in each line, and one of them holds the labels."""
    if any("\t" in line for line in lines):
        return None
    for separator in SEPARATORS:
        try:
            rows = [row for row in csv.reader(lines, delimiter=separator) if row]
        except csv.Error:
            continue
        if len({len(row) for row in rows}) == 1 and len(rows[0]) > 1:
            label, _, header = _columns(rows)
            if all(row[label - 1] in ("0", "1") for row in rows[header:]):
                return separator
    return None


def _columns(rows: list[list[str]]) -> tuple[int, int, bool]:
    """Which columns, from 1, hold labels and sentences most likely, and whether the first row is a header."""
    columns = list(zip(*rows, strict=True))
    labels = [sum(value in ("0", "1") for value in column) for column in columns]
    label = labels.index(max(labels))
    sizes = [-1 if i == label else len("".join(column)) for i, column in enumerate(columns)]
    header = len(rows) > 1 and rows[0][label] not in ("0", "1")
    return label + 1, sizes.index(max(sizes)) + 1, header


def _text_of(path: Path) -> str:
    if not os.path.exists(path):  # Path.exists raises where a name is too long for a file
        raise DataError(
            f"sentences {str(path)!r} were looked for as a file, and there is none; {CHOICES}"
        )
    if path.is_dir():
        raise DataError(f"{path} is a folder; pass a file, for example {path / 'train.tsv'}")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} could not be read ({error.strerror}); make it readable") from error
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or b"\0" in content:
        raise DataError(
            f"{path} is not UTF-8 but UTF-16, it seems; convert it with: iconv -f utf-16 -t utf-8 {path} > NEW.tsv"
        )
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        bad = [n for n, line in enumerate(content.split(b"\n"), start=1) if not _is_utf8(line)]
        more = f" and {len(bad) - 1} more are" if len(bad) > 1 else " is"
        raise DataError(
            f"{path}, line {bad[0]}{more} not UTF-8 (byte 0x{error.object[error.start]:02x}); save the file "
            f"as UTF-8, for example with: iconv -f latin1 -t utf-8 {path} > NEW.tsv"
        ) from error
    if not text.strip():
        raise DataError(f"{path} is empty; {CHOICES}")
    return text


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True


def _from_hub() -> list[Sentence]:
    name = f"the train split of {' '.join(HUB_DATASET)}"
    instead = (
        "copy GLUE's CoLA/train.tsv, or in_domain_train.tsv from https://nyu-mll.github.io/CoLA, "
        "here from where there is a network, and pass its path"
    )
    try:
        import datasets
    except ImportError as error:
        raise DataError(
            f"{COLA!r} needs the package datasets: pip install datasets. Or {instead}"
        ) from error
    try:
        table = datasets.load_dataset(*HUB_DATASET, split="train")
    # Without a network the layers below raise errors of many families.
    except Exception as error:
        first_line = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise DataError(
            f"{name} was looked for in the local Hugging Face cache and on the hub, and not found "
            f"({first_line}). With a network: try again. Without one: {instead}"
        ) from error
    missing = sorted({"sentence", "label", "idx"} - set(table.column_names))
    if missing:
        raise DataError(f"{name} has no column {' or '.join(missing)}; {instead}")
    rows = [_Row(row["idx"], COLA, str(row["label"]), "", row["sentence"].strip()) for row in table]
    return _checked(name, "cola train, row", rows, {})


def _checked(name: str, unit: str, rows: list[_Row], problems: dict[int, str]) -> list[Sentence]:
    """The sentences of ``rows``, each once; ``problems`` holds what reading them has met, by number."""
    for row in rows:
        if row.label not in ("0", "1"):
            header = ", or remove the line if it is a header" if row.number == 1 else ""
            problems[row.number] = f"the label is {row.label!r}; write 1 (acceptable) or 0{header}"
        elif not row.text:
            problems[row.number] = "the sentence is empty; write it or remove the line"
    labelled = [row for row in rows if row.number not in problems]
    contradictions = dict(_contradictions(labelled, unit))
    if problems or len(contradictions) > CONTRADICTED_SHARE * len(rows):
        problems |= {row.number: reason for row, reason in contradictions.items()}
        raise DataError(f"{name}: " + _listing("problem", unit, problems))
    if contradictions:
        reasons = {row.number: reason for row, reason in contradictions.items()}
        listing = _listing("contradicted label", unit, reasons)
        warnings.warn(f"{name}: left out for {listing}", stacklevel=4)
    used = {row.text for row in contradictions}
    sentences = []
    for row in labelled:
        if row.text not in used:
            used.add(row.text)
            place = f"{unit} {row.number}"
            sentences.append(Sentence(row.text, row.label == "1", row.source, place))
    labels = {sentence.acceptable for sentence in sentences}
    if len(labels) < 2:
        raise DataError(
            f"{name}: all {len(sentences)} sentences are labelled {'/'.join(str(int(x)) for x in labels)}; "
            "bring sentences with the other label too"
        )
    return sentences


def _contradictions(rows: list[_Row], unit: str) -> Iterator[tuple[_Row, str]]:
    """Rows whose label does not fit their mark or the label that the sentence has had before.

    CoLA's labels were made from the marks: 0 with "*", "??", "?*" and the like, 1 with none. A star beside a 1 is
    therefore a mistake; a "?" or "#" beside a 1 may be a judge's choice. A 0 without a mark is a mistake too, unless
    the whole file has no marks, as files not made from a publication may.
    """
    marked = any(row.mark for row in rows)
    first: dict[str, _Row] = {}
    for row in rows:
        earlier = first.setdefault(row.text, row)
        if earlier.label != row.label:
            yield (
                row,
                f"labelled {row.label} here and {earlier.label} in {unit} {earlier.number}, the same "
                f"sentence ({row.text}); keep the row with the right label",
            )
        elif row.label == "1" and "*" in row.mark:
            yield (
                row,
                f"the label is 1 (acceptable) but the mark is {row.mark!r}; correct one of them",
            )
        elif row.label == "0" and not row.mark and marked:
            yield (
                row,
                "the label is 0 (unacceptable) but there is no mark, and other rows have one; "
                "correct the label, or write * as the mark",
            )


def _listing(what: str, unit: str, problems: dict[int, str]) -> str:
    shown = sorted(problems.items())[:PROBLEMS_SHOWN]
    head = f"{len(problems)} {what}{'s' * (len(problems) > 1)}"
    if len(shown) < len(problems):
        head += f", the first {len(shown)}"
    return "\n  ".join([f"{head}:", *(f"{unit} {number}: {text}" for number, text in shown)])
