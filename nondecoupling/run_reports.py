"""Two runs side by side, from the report.json that ``experiments/qwen_validate.py`` wrote of each.

What differs in their settings, where their stages landed, and which verdicts are not the same.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from html import escape
from operator import attrgetter
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from nondecoupling.deciding.verdict import Status
from nondecoupling.estimate import Outcome

__all__ = ["Comparison", "ReportedRun", "StageEnd", "compare", "html", "read_report"]

STYLE = """
:root { color-scheme: light dark; --line: #ddd }
@media (prefers-color-scheme: dark) { :root { --line: #444 } }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 58rem; margin: 2rem auto; padding: 0 1rem }
svg { max-width: 100%; height: auto; background: #fff; border-radius: .3rem }
table { border-collapse: collapse; margin: 1rem 0; display: block; overflow-x: auto }
th, td { text-align: left; padding: .25rem .8rem; border-bottom: 1px solid var(--line) }
"""
# The stage before any training, whose SFT loss would hide what training did.
UNTRAINED = "base"
NO_PICTURE = "<p>no trained stage has a finite loss and reward, so there is no picture</p>"
# Titles of the tables, and what stands there where they are empty.
TABLES = {
    "settings": ("Settings that differ", "the settings are the same"),
    "stages": ("Where the stages landed", "the runs share no stage"),
    "verdicts": ("Verdicts that differ", "every row that both runs have has the same verdict"),
}


Name = TypeVar("Name")
Value = TypeVar("Value")


@dataclass(frozen=True)
class StageEnd:
    """What a stage ended with: SFT loss above H(d) in nats per response, reward J(p), KL(p||ref) in nats."""

    excess_loss: float
    reward: float
    kl_to_ref: float | None


@dataclass(frozen=True)
class ReportedRun:
    """What of a report two runs can be compared by.

    ``verdicts`` are by statement, claim and place; ``outcome`` is the verdict of the whole run.
    """

    name: str
    protocol: str
    outcome: str
    settings: dict[str, Any]
    landings: dict[str, StageEnd]
    verdicts: dict[tuple[str, str, str], str]


@dataclass(frozen=True)
class Comparison:
    """Two runs of one protocol, and what differs between them."""

    first: ReportedRun
    second: ReportedRun

    @property
    def settings(self) -> list[tuple[str, Any, Any]]:
        """The settings that are not the same; None where a run lacks one."""
        a, b = self.first.settings, self.second.settings
        return [
            (name, a.get(name), b.get(name))
            for name in dict.fromkeys([*a, *b])
            if a.get(name) != b.get(name)
        ]

    @property
    def stages(self) -> list[tuple[str, StageEnd, StageEnd]]:
        """Of the stages that both runs have."""
        a, b = self.first.landings, self.second.landings
        return [(name, a[name], b[name]) for name in a if name in b]

    @property
    def verdicts(self) -> list[tuple[tuple[str, str, str], str, str]]:
        """Of the rows that both runs have, those that ended otherwise."""
        a, b = self.first.verdicts, self.second.verdicts
        return [(row, a[row], b[row]) for row in a if row in b and a[row] != b[row]]

    @property
    def unshared(self) -> tuple[int, int]:
        """How many rows only the first run has, and how many only the second."""
        a, b = self.first.verdicts.keys(), self.second.verdicts.keys()
        return len(a - b), len(b - a)

    def tables(self) -> dict[str, list[list[str]]]:
        """Header and rows of each table, by the names in ``TABLES``."""
        one, two = self.first.name, self.second.name
        stages = [["quantity", "stage", one, two, "difference"]]
        for what, of in (
            ("SFT loss above H(d)", attrgetter("excess_loss")),
            ("reward", attrgetter("reward")),
            ("KL to ref", attrgetter("kl_to_ref")),
        ):
            for name, *ends in self.stages:
                a, b = map(of, ends)
                unknown = a is None or b is None or math.isnan(b - a)  # as of two infinities
                difference = "" if unknown else f"{b - a:+.4g}"
                stages.append([what, name, _number(a), _number(b), difference])
        settings = [["setting", one, two]]
        settings += [
            [name, *("-" if v is None else str(v) for v in both)] for name, *both in self.settings
        ]
        verdicts = [["statement", "claim", "at", one, two]]
        verdicts += [[*row, a, b] for row, a, b in self.verdicts]
        return {"settings": settings, "stages": stages, "verdicts": verdicts}


def read_report(place: str | Path) -> ReportedRun:
    """The report of a run folder, or of a report.json.

    The verdict of the whole run must be the one that its rows give: "violated" where a row is refuted, or where a
    theorem or self-test is violated by samples (a finding may be); "undecided" where a row of an enumerated run is.

    Errors: ``ValueError`` where it is not there, no JSON, or not the report of a run; where two rows, or two averages
    of a policy, have one name; where the rows give another verdict.
    """
    path = Path(place)
    if path.is_dir():
        path = path / "report.json"
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(
            f"{path}: there is no such file; give the folder of a run that is complete"
        ) from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is no JSON ({error}); give the report.json of a run") from None
    try:
        sampled = report.get("protocol") == "sampled"
        verdicts, expected = _of_samples(report) if sampled else _of_enumeration(report)
        outcome = report["outcome"]
        if outcome != expected:
            raise ValueError(f"outcome={outcome!r}, but by its rows it is {expected!r}")
        return ReportedRun(
            name=path.parent.name or str(path),
            protocol="sampled" if sampled else "enumerated",
            outcome=outcome,
            settings={k: v for k, v in report["config"].items() if k != "sha256"},
            landings=_of_averages(report) if sampled else _of_checkpoints(report),
            verdicts=verdicts,
        )
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(
            f"{path} is not the report of a run ({type(error).__name__}: {error}); give one that "
            "experiments/qwen_validate.py wrote"
        ) from None


def _of_enumeration(report: dict[str, Any]) -> tuple[dict[tuple[str, str, str], str], str]:
    """The verdicts of the rows, and that of the run by them."""
    rows = report["rows"]
    keys = [(row["statement"], row["claim"], row["place"]) for row in rows]
    said = [Status[row["status"]] for row in rows]
    outcome = "undecided" if Status.UNDECIDED in said else "holds"
    verdicts = _by_name(keys, (status.name.lower() for status in said))
    return verdicts, "violated" if Status.REFUTED in said else outcome


def _of_samples(report: dict[str, Any]) -> tuple[dict[tuple[str, str, str], str], str]:
    """The same of a sampled run, where a violated finding is a result and no failure."""
    rows = report["rows"]
    keys = [(row["statement"], row["claim"], row["policy"]) for row in rows]
    said = [Outcome(row["outcome"]) for row in rows]
    proved = [one for one, row in zip(said, rows, strict=True) if row["kind"] != "finding"]
    verdicts = _by_name(keys, (outcome.value for outcome in said))
    return verdicts, "violated" if Outcome.VIOLATED in proved else "holds"


def _by_name(names: list[Name], values: Iterable[Value]) -> dict[Name, Value]:
    """A dictionary of pairs whose names are all different."""
    often = [name for name, count in Counter(names).items() if count > 1]
    if often:
        raise ValueError(f"{often[0]} is there more than once")
    return dict(zip(names, values, strict=True))


def _of_checkpoints(report: dict[str, Any]) -> dict[str, StageEnd]:
    """The last checkpoint of each stage."""
    return {line["stage"]: _stage_end(line, "eps") for line in report["checkpoints"]}


def _of_averages(report: dict[str, Any]) -> dict[str, StageEnd]:
    lines = report["averages"]
    ends = (_stage_end(line, "excess_loss") for line in lines)
    return _by_name([line["policy"] for line in lines], ends)


def _stage_end(line: dict[str, Any], loss: str) -> StageEnd:
    """Infinite numbers are text in JSON."""
    kl = line["kl_to_ref"]
    return StageEnd(float(line[loss]), float(line["reward"]), None if kl is None else float(kl))


def compare(first: ReportedRun, second: ReportedRun) -> Comparison:
    """Two runs of one protocol side by side.

    Errors: ``ValueError`` where the protocols are not the same, since their stages and rows are others.
    """
    if first.protocol != second.protocol:
        raise ValueError(
            f"{first.name} is of the {first.protocol} protocol and {second.name} of the {second.protocol} one; compare "
            "runs of one protocol"
        )
    if first.name == second.name:
        first = replace(first, name=f"{first.name} (first)")
        second = replace(second, name=f"{second.name} (second)")
    return Comparison(first, second)


def html(found: Comparison) -> str:
    """A page with a picture: reward against SFT loss, where the stages of both runs landed; extra ``plot``.

    A stage whose loss is infinite is not in it, and without a stage there is none. Errors: ``ImportError`` without
    matplotlib.
    """
    title = f"{found.first.name} and {found.second.name}"
    only, other = found.unshared
    parts = [
        "<!doctype html><html lang='en'><meta charset='utf-8'>",
        "<meta name='viewport' content='width=device-width, initial-scale=1'>",
        f"<title>{escape(title)}</title><style>{STYLE}</style>",
        f"<h1>{escape(title)}</h1>",
        f"<p>{escape(_outcomes(found))}</p>",
        _picture(found) if _drawn(found.first) or _drawn(found.second) else NO_PICTURE,
    ]
    for name, rows in found.tables().items():
        heading, empty = TABLES[name]
        parts.append(f"<h2>{heading}</h2>")
        parts.append(_table(rows) if len(rows) > 1 else f"<p>{empty}</p>")
    parts.append(
        f"<p>{only} rows are in the first run only, {other} in the second only.</p></html>\n"
    )
    return "\n".join(parts)


def _drawn(run: ReportedRun) -> dict[str, tuple[float, float]]:
    """Where trained stages have a place in the picture."""
    trained = {name: at for name, at in run.landings.items() if name != UNTRAINED}
    places = {name: (at.reward, at.excess_loss) for name, at in trained.items()}
    return {name: place for name, place in places.items() if np.isfinite(place).all()}


def _picture(found: Comparison) -> str:
    from nondecoupling.plot import in_style, subplots, svg
    from nondecoupling.plot.plane import sharing_a_label
    from nondecoupling.plot.style import BLUE, GREY, VERMILION

    first_run, second_run = _drawn(found.first), _drawn(found.second)
    with in_style():
        figure, axes = subplots(size=(5.4, 4.6))
        for name in first_run:
            if name in second_run:
                line = zip(first_run[name], second_run[name], strict=True)
                axes.plot(*line, color=GREY, ls=":", lw=0.8)
        for run, points, color, mark in (
            (found.first, first_run, BLUE, "o"),
            (found.second, second_run, VERMILION, "s"),
        ):
            at = np.reshape(list(points.values()), (-1, 2))
            axes.plot(at[:, 0], at[:, 1], mark, color=color, ms=5, label=_plain(run.name))
        names = [*first_run, *second_run]
        places = np.array([*first_run.values(), *second_run.values()])
        for first, group in sharing_a_label(places).items():
            text = _plain(", ".join(dict.fromkeys(names[k] for k in group)))
            axes.annotate(
                text, places[first], xytext=(5, 5), textcoords="offset points", fontsize=7
            )
        axes.set_xlabel("expected reward J(p)")
        axes.set_ylabel("SFT loss above H(d), nats per response")
        figure.legend(loc="outside lower center", ncols=2)
        picture = svg(figure)
    return picture[picture.index("<svg") :]


def _plain(text: str) -> str:
    """As it is: no formula between dollars, and not left out of the legend for its first letter."""
    text = text.replace("$", r"\$")
    return f" {text}" if text.startswith("_") else text


def _outcomes(found: Comparison) -> str:
    return "; ".join(f"{run.name}: {run.outcome}" for run in (found.first, found.second))


def _table(rows: list[list[str]]) -> str:
    head, *body = rows
    lines = ["".join(f"<th>{escape(text)}</th>" for text in head)]
    lines += ["".join(f"<td>{escape(text)}</td>" for text in row) for row in body]
    return "<table>" + "".join(f"<tr>{line}</tr>" for line in lines) + "</table>"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
