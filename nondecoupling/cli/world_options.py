"""Rational worlds from the options that spell them out, field by field."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fractions import Fraction

from nondecoupling.cli.exits import fail
from nondecoupling.theory.fields import Field, Fractions, Law, Positive, Same, Unit
from nondecoupling.theory.statement import StatementType
from nondecoupling.theory.worlds import World

# The options that give the fields of a world; every other field is given with --set.
OPTION_OF_FIELD = {
    "log_d": "--data",
    "log_ref": "--ref",
    "log_p": "--policy",
    "reward": "--reward",
    "beta": "--beta",
}
LAW, REALS = "P,Q,...", "X,Y,..."


def option_of(name: str) -> str:
    """How a field is given."""
    return OPTION_OF_FIELD.get(name, f"--set {name}=...")


def describe(name: str, field: Field) -> str:
    """What a field is and how it is given, for a reader."""
    if isinstance(field, Same):
        return f"the same as {field.other}"
    if isinstance(field, Law):
        what = "law with full support" if field.full_support else "law, zeros allowed"
    elif isinstance(field, Unit):
        what = "number between 0 and 1"
    elif isinstance(field, Positive):
        what = "positive number"
    else:
        what = type(field).__name__.lower()
    return f"{what} ({option_of(name)})"


def assigned(assignments: Iterable[str]) -> dict[str, str]:
    """The fields that --set FIELD=VALUES gives, as texts."""
    texts = {}
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        if not equals:
            fail(f"--set {assignment!r}: write FIELD=VALUES, for example --set slack=1/2")
        if name in OPTION_OF_FIELD:
            fail(f"--set {assignment!r}: give {name} with {OPTION_OF_FIELD[name]}")
        texts[name] = text
    return texts


def world_of(statement: StatementType, texts: Mapping[str, str]) -> World:
    """A world of the statement, from the texts of its free fields."""
    for name, field in statement.world.items():
        if isinstance(field, Same) and name in texts:
            fail(
                f"{option_of(name)}: {statement.id} assumes {field.named(name)}, "
                f"so give {option_of(field.other)} only"
            )
    free = {name: f for name, f in statement.world.items() if not isinstance(f, Same)}
    return world_of_fields(statement.id, free, texts)


def world_of_fields(who: str, fields: Mapping[str, Field], texts: Mapping[str, str]) -> World:
    """The world that the texts spell out; an error names the option, the value, the remedy."""
    needed = ", ".join(map(option_of, fields))
    for name in texts:
        if name not in fields:
            fail(f"{option_of(name)}: {who} has no such field; it takes {needed}")
    for name in fields:
        if name not in texts:
            fail(f"{option_of(name)} is missing: {who} takes {needed}")
    values = {name: _fractions(option_of(name), text) for name, text in texts.items()}
    counts = {name: len(values[name]) for name, field in fields.items() if field.per_response}
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"{option_of(name)} has {count}" for name, count in counts.items())
        fail(f"every response needs one number in each option: {listed}")
    for name, field in fields.items():
        if problem := _problem(field, values[name]):
            fail(f"{option_of(name)} {texts[name]}: {problem}")
    return World({name: values[name] for name in fields})


def _fractions(option: str, text: str) -> Fractions:
    numbers = []
    for part in text.split(","):
        try:
            numbers.append(Fraction(part.strip()))
        except (ValueError, ZeroDivisionError):
            fail(
                f"{option} {text}: {part!r} is not a number; write fractions or decimals: 1/4,0.75"
            )
    return tuple(numbers)


def _problem(field: Field, values: Fractions) -> str:
    """Why the values are none that the field takes, or nothing."""
    if not field.per_response and len(values) != 1:
        return f"takes one number, not {len(values)}"
    if isinstance(field, Positive) and values[0] <= 0:
        return "must be positive"
    if isinstance(field, Unit) and not 0 < values[0] < 1:
        return "must lie strictly between 0 and 1"
    if isinstance(field, Law):
        if min(values) < 0 or sum(values) != 1:
            return (
                f"probabilities are nonnegative and sum to one exactly, these sum to {sum(values)}; "
                "write them as fractions, for example 1/3,2/3"
            )
        if field.full_support and min(values) == 0:
            return "this law needs a positive probability for every response"
    return ""
