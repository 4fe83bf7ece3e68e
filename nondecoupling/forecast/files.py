"""Tables of responses and rewards, as files hold them, gathered by prompt."""

from __future__ import annotations

import json
from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field
from itertools import compress
from pathlib import Path
from typing import Any, Required, TypedDict

from numpy.typing import ArrayLike

from nondecoupling.estimate.arguments import LARGEST, GivenArgument, NamesArguments, shown
from nondecoupling.forecast.refusals import RaggedRows, RepeatedPrompts

# (prompt, reward): one's own file, and what verl dumps.
KNOWN_COLUMNS = (("prompt", "reward"), ("input", "score"))
# Columns with one number for each response, under the names by which callers name them.
EXTRA_COLUMNS = ("log_prob", "expert_reward", "expert_log_prob")
LOG_PROBS_OF = {"log_prob": "reward", "expert_log_prob": "expert_reward"}
# Of training, as TRL and verl write it: the responses of each step come from another policy.
STEP = "step"

# The first bytes of files.
PARQUET = b"PAR1"
NO_TEXT = {
    PARQUET: "a Parquet file, where JSON is read: give one of JSON",
    b"\x1f\x8b": "compressed by gzip: unpack it",
    b"PK": "a zip archive: unpack it",
}
JSON_LINES = (
    "give one object on each line, as pandas' to_json(..., orient='records', lines=True) writes them, "
    "or a Parquet file"
)

Table = list[dict[str, Any]]


class FileOptions(TypedDict, total=False):
    """How ``Samples.from_jsonl`` and ``from_parquet`` read a file; ``step`` chooses rows, the others name columns."""

    reward_bounds: Required[ArrayLike]
    ragged: bool
    prompt: str | None
    reward: str | None
    log_prob: str | None
    expert_reward: str | None
    expert_log_prob: str | None
    weight: str | None
    step: int | None


@dataclass
class Rows:
    """One entry for each prompt, in order of first appearance; what no column was named for is None."""

    prompts: list[Hashable]
    rewards: list[list[float]]
    extra: dict[str, list[list[float]] | None]
    weights: list[float] | None


@dataclass
class OfPrompt:
    """What the rows of one prompt say, the first of which is ``row``."""

    row: int
    rewards: list[float] = field(default_factory=list)
    extra: dict[str, list[float]] = field(default_factory=dict)
    weight: float | None = None
    complete: bool = False


def text_of(path: Path) -> str:
    """
    Errors: no such file; a folder; one that is no text in UTF-8, with or without a byte order mark.
    """
    _require_there(path)
    if path.is_dir():
        raise ValueError(f"{path} is a folder: give a file")
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        known = (what for start, what in NO_TEXT.items() if error.object.startswith(start))
        what = next(known, f"no text in UTF-8 ({error}): write it in UTF-8")
        raise ValueError(f"{path} is {what}") from None


def is_parquet(path: Path) -> bool:
    """By the name or the first bytes; a folder is one of Parquet files."""
    if path.suffix == ".parquet" or path.is_dir():
        return True
    # What is read from a pipe is gone.
    return path.is_file() and _start(path) == PARQUET


def read_table(path: Path) -> Table:
    """A Parquet file, a folder of such files, or JSON lines.

    Errors: as ``read_jsonl`` and ``read_parquet``, with its name.
    """
    try:
        return (read_parquet if is_parquet(path) else read_jsonl)(path)
    except ValueError as error:
        if str(path) in str(error):
            raise
        raise ValueError(f"{path}: cannot be read ({error})") from error


def read_jsonl(path: Path) -> Table:
    """
    Errors: no such file; one that is no text; a line that is no JSON object.
    """
    text, table = text_of(path), []
    for place, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                row = json.loads(line)
            except ValueError as error:
                raise ValueError(
                    f"{path}, line {place}: not JSON ({error}): {shown(line)}; {_as_lines(text)}"
                ) from None
            if not isinstance(row, dict):
                raise ValueError(f"{path}, line {place}={shown(row)}: {_as_lines(text)}")
            table.append(row)
    return table


def _as_lines(text: str) -> str:
    """What to do with text that is no JSON lines."""
    try:
        json.loads(text)
    except ValueError:
        return JSON_LINES
    return f"the whole file is one JSON value; {JSON_LINES}"


def read_parquet(path: Path) -> Table:
    """
    Errors: no such file; one that is no Parquet file; a folder without any or with others; ``ImportError`` without
    pyarrow.
    """
    if path.is_dir() and not _files_in(path):
        raise ValueError(f"{path} is an empty folder: give one with Parquet files, or a file")
    rows: Table = _with_pyarrow("read_table", path).to_pylist()
    return rows


def parquet_metadata(path: Path) -> dict[bytes, bytes]:
    """What a Parquet file's writer said of it; nothing of a folder of such files.

    Errors: as ``read_parquet``.
    """
    return {} if path.is_dir() else _with_pyarrow("read_schema", path).metadata or {}


def _with_pyarrow(function: str, path: Path) -> Any:
    try:
        from pyarrow import parquet
    except ImportError:
        raise ImportError(
            f"{path}: Parquet files need pyarrow: pip install pyarrow, or write the table as JSON lines"
        ) from None
    _require_there(path)
    try:
        return getattr(parquet, function)(path)
    except Exception as error:  # pyarrow's own, of many families
        raise ValueError(
            no_parquet(path, error, "end the names of JSON lines in .jsonl")
        ) from error


def no_parquet(path: Path, error: Exception, remedy: str) -> str:
    """What pyarrow found instead of one, or in it; ``remedy`` is for a file of another kind."""
    if path.is_dir():
        others = [file for file in _files_in(path) if _start(file) != PARQUET]
        if others:
            names = ", ".join(str(file.relative_to(path)) for file in others[:3])
            more = ", ..." if len(others) > 3 else ""
            return f"{path} is a folder with {names}{more}: give one file, or a folder of Parquet files alone"
    elif path.is_file() and (start := _start(path)) != PARQUET:
        what = f"it begins with {start!r}" if start else "it is empty"
        return f"{path}: no Parquet file that can be read: {what}; {remedy}"
    return f"{path}: no Parquet file that can be read ({error}); was it cut off? Write it again"


def _files_in(folder: Path) -> list[Path]:
    """Those that pyarrow looks at."""
    files = (file for file in folder.rglob("*") if file.is_file())
    return sorted(file for file in files if not file.name.startswith((".", "_")))


def _start(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(len(PARQUET))


def _require_there(path: Path) -> None:
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file")


def gathered(
    table: Table,
    path: str | Path,
    *,
    prompt: str | None = None,
    reward: str | None = None,
    weight: str | None = None,
    step: int | None = None,
    **extra: str | None,
) -> Rows:
    """The numbers of each prompt's rows together, of one step of training; the names are those of the columns."""
    if not table:
        raise ValueError(f"{path} is empty: give one row for each response or prompt")
    prompt, reward = _columns(table[0], path, prompt, reward)
    named = {name: column for name in EXTRA_COLUMNS if (column := extra.pop(name, None))}
    named["reward"] = reward
    if extra:
        raise TypeError(f"{', '.join(extra)}: no such column; name {', '.join(EXTRA_COLUMNS)}")
    found: dict[str | int, OfPrompt] = {}
    for place, row in _of_step(table, path, step):
        for column in (prompt, *named.values(), *([weight] if weight else [])):
            if column not in row:
                raise ValueError(
                    f"{path}, row {place}: no column {column!r}; it has {', '.join(map(repr, row))}: name columns that "
                    "every row has"
                )
        label = label_in(row[prompt], prompt, path, place, next(iter(found), None))
        many = isinstance(row[reward], list)
        here = found.setdefault(label, OfPrompt(place))
        if here.complete or (here.rewards and many):
            raise RepeatedPrompts(
                f"{path}, row {place}: prompt {shown(label)} was complete before; give a prompt's rewards in one list, "
                "or one row for each response"
            )
        here.complete = many
        numbers = {n: _numbers(row[column], column, path, place) for n, column in named.items()}
        for name, of in LOG_PROBS_OF.items():
            if name in numbers and len(numbers[name]) != len(numbers.get(of, numbers[name])):
                raise ValueError(
                    f"{path}, row {place}: {len(numbers[name])} numbers in {named[name]!r}, {len(numbers[of])} in "
                    f"{named[of]!r}; give one log-probability for each reward"
                )
        here.rewards.extend(numbers.pop("reward"))
        for name, values in numbers.items():
            here.extra.setdefault(name, []).extend(values)
        if weight:
            number = _weight_in(row[weight], weight, path, place)
            if here.weight not in (None, number):
                raise ValueError(
                    f"{path}, row {place}, {weight}={number:g}: prompt {shown(label)} had {here.weight:g}; a weight "
                    "is that of a prompt"
                )
            here.weight = number
    groups = list(found.values())
    if weight:
        for group in groups:
            positive_weight_in(group.weight, weight, path, group.row)
    _require_even_experts(found, named, path)
    return Rows(
        list(found),
        [group.rewards for group in groups],
        {n: [g.extra[n] for g in groups] if n in named else None for n in EXTRA_COLUMNS},
        [g.weight for g in groups if g.weight is not None] if weight else None,
    )


def _columns(
    first: dict[str, Any], path: str | Path, prompt: str | None, reward: str | None
) -> tuple[str, str]:
    for known_prompt, known_reward in KNOWN_COLUMNS:
        names = prompt or known_prompt, reward or known_reward
        if set(names) <= set(first):
            return names
    missing = [name for name in (prompt, reward) if name is not None and name not in first]
    gone = f", and no {', '.join(map(repr, missing))}" if missing else ""
    raise NamesArguments(
        f"{path} has the columns {', '.join(map(repr, first))}{gone}: name those of the prompt and its reward, as ",
        GivenArgument("prompt", "question"),
        ", ",
        GivenArgument("reward", "accuracy"),
    )


def _of_step(
    table: Table, path: str | Path, step: int | None
) -> Iterable[tuple[int, dict[str, Any]]]:
    """(place, row) of one step: the rows of another are of another policy than the start policy."""
    rows = enumerate(table, start=1)
    steps = [_listed(row.get(STEP)) for row in table]
    named = {shown(each): each for here in steps for each in here}
    found = list(named)
    listed = ", ".join(found if len(found) < 6 else [*found[:2], "...", found[-1]])
    if step is None:
        if len(found) > 1:
            first = next(each for each in named.values() if each is not None)
            raise NamesArguments(
                f"{path}, {STEP}={listed}: responses of several policies; choose the step whose rollouts the start "
                "policy made, as ",
                GivenArgument("step", first),
            )
        return rows
    if found == ["None"]:
        raise NamesArguments(
            GivenArgument("step", step), f": {path} has no column {STEP!r}; leave it out"
        )
    of_it = [bool(here) and all(each == step for each in here) for here in steps]
    chosen = list(compress(rows, of_it))
    if not chosen:
        raise NamesArguments(
            GivenArgument("step", step),
            f": {path} has none of it, but {STEP}={listed}; choose one of these",
        )
    return chosen


def _listed(cell: Any) -> list[Any]:
    return cell if isinstance(cell, list) else [cell]


def label_in(
    cell: Any, column: str, path: str | Path, place: int, before: str | int | None
) -> str | int:
    """A text, or a whole number that stands for one; chat messages as JSON. ``before``: another label of the table.

    Errors: no prompt, or one of another kind; whole numbers beside texts.
    """
    if cell is None:
        raise ValueError(f"{path}, row {place}: no prompt in the column {column!r}")
    where = f"{path}, row {place}, {column}={shown(cell)}"
    if isinstance(cell, list) and cell and all(isinstance(one, dict) for one in cell):
        cell = json.dumps(cell, sort_keys=True, default=repr)
    if isinstance(cell, bool) or not isinstance(cell, (str, int)):
        raise ValueError(f"{where}: give a text, or chat messages, one prompt in each row")
    if before is not None and isinstance(cell, int) is not isinstance(before, int):
        raise ValueError(
            f"{where}, and before it {shown(before)}: give whole numbers or texts, not both, as prompts"
        )
    return cell


def positive_weight_in(cell: Any, column: str, path: str | Path, place: int) -> float:
    """
    Errors: not one positive number; several in a list are one if they are alike.
    """
    number = _weight_in(cell, column, path, place)
    if number <= 0:
        raise _no_weight(cell, column, path, place)
    return number


def _weight_in(cell: Any, column: str, path: str | Path, place: int) -> float:
    first, *others = _listed(cell) or [None]
    if (
        not isinstance(first, (bool, int, float))
        or not abs(first) <= LARGEST
        or any(other != first for other in others)
    ):
        raise _no_weight(cell, column, path, place)
    return float(first)


def _no_weight(cell: Any, column: str, path: str | Path, place: int) -> NamesArguments:
    return NamesArguments(
        GivenArgument("weight", column),
        f": {path}, row {place} has {shown(cell)}; give each prompt one positive number, and leave out prompts that do "
        "not count",
    )


def _require_even_experts(
    found: dict[str | int, OfPrompt], named: dict[str, str], path: str | Path
) -> None:
    if "expert_reward" not in named:
        return
    counts = {label: len(of.extra["expert_reward"]) for label, of in found.items()}
    fewest, most = (choose(counts, key=counts.__getitem__) for choose in (min, max))
    if counts[fewest] < counts[most]:
        raise RaggedRows(
            f"{path}: {counts[most]} expert responses to prompt {shown(most)}, {counts[fewest]} to {shown(fewest)}; "
            "give as many for each prompt, whatever the numbers of its other responses: one row for each prompt, with "
            f"the first {counts[fewest]} expert responses of each in a list in {named['expert_reward']!r}"
        )


def _numbers(cell: Any, column: str, path: str | Path, place: int) -> list[float]:
    values = _listed(cell)
    for value in values:
        if not isinstance(value, (bool, int, float)):
            raise ValueError(
                f"{path}, row {place}, {column}={shown(value)}: give a number or a list of numbers"
            )
    try:
        return [float(value) for value in values]
    except OverflowError:  # JSON has whole numbers of any size
        raise ValueError(
            f"{path}, row {place}, {column}={shown(cell)}: a number that is too large; give finite ones"
        ) from None
