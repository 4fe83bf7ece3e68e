"""Tables of responses and rewards, as files hold them, gathered by prompt."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any, Required, TypedDict

from numpy.typing import ArrayLike

from nondecoupling.estimate.arguments import LARGEST, GivenArgument, NamesArguments, shown
from nondecoupling.forecast.refusals import RaggedRows, RepeatedPrompts

# (prompt, reward): one's own file, and what verl dumps.
KNOWN_COLUMNS = (("prompt", "reward"), ("input", "score"))
PROMPTS, REWARDS = zip(*KNOWN_COLUMNS, strict=True)
# Columns with one number for each response, under the names by which callers name them.
EXTRA_COLUMNS = ("log_prob", "expert_reward", "expert_log_prob")
LOG_PROBS_OF = {"log_prob": "reward", "expert_log_prob": "expert_reward"}
# Of training, the first as TRL and verl write it: the responses of each step come from another policy.
STEPS = ("step", "global_step", "train_step", "training_step", "iteration", "epoch")

# What Parquet and JSON make of numbers.
NUMBERS = (bool, int, float, Decimal)

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

Row = dict[str, Any]
Table = list[Row]


class FileOptions(TypedDict, total=False):
    """How ``Samples.from_jsonl`` and ``from_parquet`` read a file; ``step`` chooses rows, the others name columns.

    ``step`` is a value of the first of ``STEPS`` that has it in the file.
    """

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
    prompt, reward = _columns(table, path, prompt, reward)
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


def column_names(table: Table) -> list[str]:
    """Of all rows: one row alone may lack some."""
    return list(dict.fromkeys(name for row in table for name in row))


def known_columns(
    table: Table,
    path: str | Path,
    prompt: str | None,
    reward: str | None,
    as_reward: Callable[[str], GivenArgument],
) -> tuple[str, str] | None:
    """Those of the prompt and of its reward, as named or else one pair of ``KNOWN_COLUMNS``; None without such a pair.

    ``as_reward``: the argument that names the reward's column.

    Errors: two pairs are there, or both known names of a reward, which differ in some row, and no name says which.
    """
    columns = column_names(table)
    pairs = [(prompt or of_prompt, reward or of_reward) for of_prompt, of_reward in KNOWN_COLUMNS]
    there = [pair for pair in pairs if set(pair) <= set(columns)]
    found = [pair for pair in there if pair in KNOWN_COLUMNS] or there
    if not found:
        return None
    prompts = list(dict.fromkeys(of_prompt for of_prompt, _ in found))
    rewards = [reward] if reward else [name for name in REWARDS if name in columns]
    for what, names, argument in (
        ("prompt", prompts, partial(GivenArgument, "prompt")),
        ("reward", rewards, as_reward),
    ):
        if any(_differ(row.get(names[0]), row.get(names[-1])) for row in table):
            raise NamesArguments(
                f"{path} has the columns {' and '.join(map(repr, names))}: say which one is that of the {what}, as ",
                argument(names[0]),
            )
    return found[0]


def _differ(one: Any, other: Any) -> bool:
    return bool(one != other and (one == one or other == other))


def _columns(
    table: Table, path: str | Path, prompt: str | None, reward: str | None
) -> tuple[str, str]:
    names = known_columns(table, path, prompt, reward, partial(GivenArgument, "reward"))
    if names is not None:
        return names
    columns = column_names(table)
    missing = [name for name in (prompt, reward) if name is not None and name not in columns]
    gone = f", and no {', '.join(map(repr, missing))}" if missing else ""
    raise NamesArguments(
        f"{path} has the columns {', '.join(map(repr, columns))}{gone}: name those of the prompt and its reward, as ",
        GivenArgument("prompt", "question"),
        ", ",
        GivenArgument("reward", "accuracy"),
    )


def step_in(cell: Any) -> Any:
    """The whole number that a cell holds, also as 20.0, as tables do next to missing ones, or as "20"."""
    if isinstance(cell, float) and cell.is_integer():
        return int(cell)
    if isinstance(cell, str) and cell.isdecimal():
        return int(cell)
    return cell


@dataclass(frozen=True)
class StepColumn:
    """A column that counts steps of training, with its different values in order."""

    name: str
    values: list[Any]

    @classmethod
    def of(cls, name: str, rows: Sequence[Row]) -> StepColumn:
        cells = (each for row in rows for each in _steps(row, name))
        return cls(name, list({shown(each): each for each in cells}.values()))

    def __str__(self) -> str:
        texts = [shown(each) for each in self.values]
        return (
            f"{self.name}={', '.join(texts if len(texts) < 6 else [*texts[:2], '...', texts[-1]])}"
        )


def step_columns(rows: Sequence[Row]) -> list[StepColumn]:
    """Those with a value, the ones with several first."""
    found = [StepColumn.of(name, rows) for name in STEPS]
    there = [column for column in found if column.values not in ([None], [])]
    return sorted(there, key=lambda column: len(column.values) < 2)


def _of_step(table: Table, path: str | Path, step: int | None) -> list[tuple[int, Row]]:
    """(place, row) of one step: the rows of another are of another policy than the start policy."""
    rows = list(enumerate(table, start=1))
    if step is None:
        _require_one_policy(table, path, step)
        return rows
    columns = step_columns(table)
    if not columns:
        raise NamesArguments(
            GivenArgument("step", step), f": {path} has no column {STEPS[0]!r}; leave it out"
        )
    column = _column_with(step, table) or columns[0]
    chosen = [
        (place, row)
        for place, row in rows
        if (here := _steps(row, column.name)) and all(each == step for each in here)
    ]
    if not chosen:
        raise NamesArguments(
            GivenArgument("step", step),
            f": {path} has none of it, but {column}; choose one of these",
        )
    _require_one_policy([row for _, row in chosen], path, step)
    return chosen


def _column_with(step: int, rows: Sequence[Row]) -> StepColumn | None:
    """The first of ``STEPS`` that has this value, whether or not others have more values."""
    found = {column.name: column for column in step_columns(rows) if step in column.values}
    return next((found[name] for name in STEPS if name in found), None)


def _require_one_policy(rows: Sequence[Row], path: str | Path, step: int | None) -> None:
    for column in step_columns(rows):
        if len(column.values) < 2:
            continue
        whole = [each for each in column.values if type(each) is int]
        if step is None and whole and _column_with(whole[0], rows) == column:
            raise NamesArguments(
                f"{path}, {column}: responses of several policies; rename the column if it counts no steps of "
                "training, or choose the step whose rollouts the start policy made, as ",
                GivenArgument("step", whole[0]),
            )
        where = f"{path}, {column}" if step is None else f"{path}, step {step}, {column}"
        raise ValueError(
            f"{where}: responses of several policies; rename the column if it counts no steps of training, or keep "
            "the rows of the start policy alone"
        )


def _steps(row: Row, column: str) -> list[Any]:
    return [step_in(each) for each in _listed(row.get(column))]


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
    number = number_of(first)
    if not abs(number) <= LARGEST or any(other != first for other in others):
        raise _no_weight(cell, column, path, place)
    return number


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


def number_of(cell: Any) -> float:
    """NaN for what is no number, infinity for one that float64 does not hold."""
    if not isinstance(cell, NUMBERS):
        return math.nan
    try:
        return float(cell)
    except OverflowError:  # JSON has whole numbers of any size
        return math.inf


def _numbers(cell: Any, column: str, path: str | Path, place: int) -> list[float]:
    numbers = []
    for value in _listed(cell):
        number = number_of(value)
        if not math.isfinite(number):
            raise ValueError(
                f"{path}, row {place}, {column}={shown(value)}: give a number or a list of numbers, all finite; where "
                "one is missing leave out the whole prompt, as leaving out single responses biases the estimate"
            )
        numbers.append(number)
    return numbers
