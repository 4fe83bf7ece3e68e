"""Rational worlds from the options that spell them out, field by field."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fractions import Fraction

from nondecoupling.cli.exits import fail
from nondecoupling.theory.fields import Field, Fractions, free_fields
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
# Numbers with more digits have no float64, and cost time to make.
MOST_DIGITS = 300
LAW, REALS = "P,Q,...", "X,Y,..."


def option_of(name: str) -> str:
    """How a field is given."""
    return OPTION_OF_FIELD.get(name, f"--set {name}=...")


def describe(name: str, field: Field) -> str:
    """What a field is and how it is given, for a reader."""
    given = field.source(name) != name
    return field.description if given else f"{field.description} ({option_of(name)})"


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
        source = field.source(name)
        if source != name and name in texts:
            fail(
                f"{option_of(name)}: {statement.id} assumes {field.assumption(name)}, "
                f"so give {option_of(source)} only"
            )
    return world_of_fields(statement.id, free_fields(statement.world), texts)


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
            numbers.append(_fraction(option, part.strip()))
        except (ValueError, ZeroDivisionError):
            fail(
                f"{option} {text}: {part!r} is not a number; write fractions or decimals: 1/4,0.75"
            )
    return tuple(numbers)


def _fraction(option: str, text: str) -> Fraction:
    """The number; one that would take millions of digits is refused before it is made."""
    _, exponent, power = text.lower().partition("e")
    long = len(text) > MOST_DIGITS
    if long or (exponent and power.lstrip("+-").isdigit() and abs(int(power)) > MOST_DIGITS):
        shown = text if len(text) < 40 else f"{text[:37]}..."
        fail(f"{option} {shown}: beyond 1e{MOST_DIGITS} or below 1e-{MOST_DIGITS}; change the unit")
    return Fraction(text)


def _problem(field: Field, values: Fractions) -> str:
    """Why the values are none that the field takes, or nothing."""
    if not field.per_response and len(values) != 1:
        return f"takes one number, not {len(values)}"
    return field.problem(values)
