"""Two runs side by side, from the report.json that ``experiments/qwen_validate.py`` wrote of each.

What differs in their settings, where their stages landed, and which verdicts are not the same.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from html import escape
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np

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
# Titles of the tables, and what stands there where they are empty.
TABLES = {
    "settings": ("Settings that differ", "the settings are the same"),
    "stages": ("Where the stages landed", "the runs share no stage"),
    "verdicts": ("Verdicts that differ", "every row that both runs have has the same verdict"),
}


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
                difference = "" if a is None or b is None else f"{b - a:+.4g}"
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

    Errors: ``ValueError`` where it is not there, no JSON, or not the report of a run.
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
        where = "policy" if sampled else "place"
        verdict = "outcome" if sampled else "status"
        return ReportedRun(
            name=path.parent.name or str(path),
            protocol="sampled" if sampled else "enumerated",
            outcome=report["outcome"],
            settings={k: v for k, v in report["config"].items() if k != "sha256"},
            landings=_of_averages(report) if sampled else _of_checkpoints(report),
            verdicts={
                (row["statement"], row["claim"], row[where]): row[verdict].lower()
                for row in report["rows"]
            },
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{path} is not the report of a run ({type(error).__name__}: {error}); give one that "
            "experiments/qwen_validate.py wrote"
        ) from None


def _of_checkpoints(report: dict[str, Any]) -> dict[str, StageEnd]:
    """The last checkpoint of each stage."""
    return {
        line["stage"]: StageEnd(line["eps"], line["reward"], line["kl_to_ref"])
        for line in report["checkpoints"]
    }


def _of_averages(report: dict[str, Any]) -> dict[str, StageEnd]:
    return {
        line["policy"]: StageEnd(line["excess_loss"], line["reward"], line["kl_to_ref"])
        for line in report["averages"]
    }


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

    Errors: ``ImportError`` without matplotlib.
    """
    from nondecoupling.plot import in_style, subplots, svg
    from nondecoupling.plot.plane import sharing_a_label
    from nondecoupling.plot.style import BLUE, GREY, VERMILION

    with in_style():
        figure, axes = subplots(size=(5.4, 4.6))
        for name, a, b in found.stages:
            if name != UNTRAINED:
                line = [a.reward, b.reward], [a.excess_loss, b.excess_loss]
                axes.plot(*line, color=GREY, ls=":", lw=0.8)
        dots: dict[tuple[float, float], str] = {}
        for run, color, mark in ((found.first, BLUE, "o"), (found.second, VERMILION, "s")):
            trained = {name: at for name, at in run.landings.items() if name != UNTRAINED}
            points = [(at.reward, at.excess_loss) for at in trained.values()]
            axes.plot(*zip(*points, strict=True), mark, color=color, ms=5, label=_plain(run.name))
            dots |= dict(zip(points, trained, strict=True))
        places, names = np.array(list(dots)), list(dots.values())
        for first, group in sharing_a_label(places).items():
            text = _plain(", ".join(dict.fromkeys(names[k] for k in group)))
            axes.annotate(
                text, places[first], xytext=(5, 5), textcoords="offset points", fontsize=7
            )
        axes.set_xlabel("expected reward J(p)")
        axes.set_ylabel("SFT loss above H(d), nats per response")
        figure.legend(loc="outside lower center", ncols=2)
        picture = svg(figure)
    title = f"{found.first.name} and {found.second.name}"
    only, other = found.unshared
    parts = [
        "<!doctype html><html lang='en'><meta charset='utf-8'>",
        "<meta name='viewport' content='width=device-width, initial-scale=1'>",
        f"<title>{escape(title)}</title><style>{STYLE}</style>",
        f"<h1>{escape(title)}</h1>",
        f"<p>{escape(_outcomes(found))}</p>",
        picture[picture.index("<svg") :],
    ]
    for name, rows in found.tables().items():
        heading, empty = TABLES[name]
        parts.append(f"<h2>{heading}</h2>")
        parts.append(_table(rows) if len(rows) > 1 else f"<p>{empty}</p>")
    parts.append(
        f"<p>{only} rows are in the first run only, {other} in the second only.</p></html>\n"
    )
    return "\n".join(parts)


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
