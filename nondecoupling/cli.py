"""The ``nondecoupling`` command: list, show, check, attack and certify statements from a shell.

Exit status: 0 what was asked holds, 1 a claim is refuted (or the ledger has a statement that is not
established), 2 the command was misused, 3 nothing could be decided. A claim that the theory itself
calls false counts as holding when its counterexample is found.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import IntEnum
from fractions import Fraction
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, NoReturn

import numpy as np
import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from nondecoupling import __version__, bounds, catalog, ledger
from nondecoupling.namespaces import floats_of
from nondecoupling.sampling import BatchResult, check_arguments
from nondecoupling.statement import Arguments, Claim, StatementType, only
from nondecoupling.verdict import Status
from nondecoupling.worlds import (
    Field,
    Fractions,
    Law,
    Positive,
    Reward,
    Same,
    Unit,
    World,
    sample_worlds,
)

# The options that give the fields of a world; every other field is given with --set.
OPTION_OF_FIELD = {
    "log_d": "--data",
    "log_ref": "--ref",
    "log_p": "--policy",
    "reward": "--reward",
    "beta": "--beta",
}
LAW, REALS = "P,Q,...", "X,Y,..."
CHUNK = 20_000  # worlds checked at once, between two steps of the progress bar
AS_THE_THEORY_SAYS = "refuted, as the theory says"
NO_COUNTEREXAMPLE = "no counterexample"  # to a claim that the theory calls false, in a sample
STYLE = {
    Status.HOLDS.value: "green",
    AS_THE_THEORY_SAYS: "green",
    Status.REFUTED.value: "bold red",
}

app = typer.Typer(
    name="nondecoupling",
    help="State, check, attack and certify the theorems on the non-decoupling of SFT and RL.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    epilog="Exit status: 0 holds, 1 refuted, 2 misused, 3 undecided.",
)


class ExitStatus(IntEnum):
    HOLDS = 0
    REFUTED = 1
    MISUSED = 2
    UNDECIDED = 3


def _fail(message: str) -> NoReturn:
    typer.echo(f"Error: {message}", err=True)
    raise typer.Exit(ExitStatus.MISUSED)


def _at_least(least: int) -> Callable[[typer.CallbackParam, int], int]:
    def checked(param: typer.CallbackParam, value: int) -> int:
        if value < least:
            _fail(f"{param.opts[0]} {value}: must be at least {least}")
        return value

    return checked


StatementId = Annotated[str, typer.Argument(metavar="ID", help="A statement, for example S2.")]
ClaimName = Annotated[str | None, typer.Option("--claim", help="Only this claim, by its name.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Seed = Annotated[int, typer.Option(callback=_at_least(0), help="Seed of the random numbers.")]


@dataclass
class Row:
    """One claim as the command reports it."""

    claim: str
    refuted_by_theory: bool
    status: str
    numbers: dict[str, Any] = field(default_factory=dict)
    reason: str = ""
    world: dict[str, Any] | None = None

    def exit_status(self) -> ExitStatus:
        if self.status in (Status.HOLDS.value, AS_THE_THEORY_SAYS, NO_COUNTEREXAMPLE):
            return ExitStatus.HOLDS
        refuted = self.status == Status.REFUTED.value
        return ExitStatus.REFUTED if refuted else ExitStatus.UNDECIDED


def main() -> None:
    """Entry point of the console script."""
    app()


@app.callback(invoke_without_command=True)
def _version(version: Annotated[bool, typer.Option("--version")] = False) -> None:
    if version:
        print(f"nondecoupling {__version__}")
        raise typer.Exit


# --- statements -------------------------------------------------------------------------------


@app.command("list")
def list_statements(as_json: AsJson = False) -> None:
    """List the statements of the catalogue."""
    found = catalog.statements().values()
    if as_json:
        _print_json([{"id": s.id, "title": s.title, "depends": s.depends} for s in found])
        return
    table = Table("id", "statement", "rests on", title="Statements")
    for statement in found:
        table.add_row(statement.id, escape(statement.title), ", ".join(statement.depends))
    _console().print(table)


@app.command()
def show(statement_id: StatementId, as_json: AsJson = False) -> None:
    """Show a statement: its text, assumptions, world, claims and how far it is assured."""
    statement = _statement(statement_id)
    sections = catalog.sections(statement)
    world = {name: _describe(name, f) for name, f in statement.world.items()}
    claims = [
        {"name": c.name, "relation": c.relation, "refuted_by_theory": c.refuted}
        for c in _claims(statement)
    ]
    entry = _ledger().get(statement.id)
    if as_json:
        _print_json(
            {
                "id": statement.id,
                "title": statement.title,
                "depends": statement.depends,
                "sections": sections,
                "world": world,
                "claims": claims,
                "rungs": entry.rungs if entry else {},
            }
        )
        return
    console = _console()
    console.print(f"[bold]{statement.id}  {escape(statement.title)}[/bold]")
    for name, text in sections.items():
        console.print(f"\n[bold]{name}[/bold]\n{escape(text)}")
    console.print("\n[bold]World[/bold]")
    for name, text in world.items():
        console.print(escape(f"{name}: {text}"))
    console.print("\n[bold]Claims[/bold]")
    for claim in claims:
        note = ", false by the theory" if claim["refuted_by_theory"] else ""
        console.print(escape(f"{claim['name']} ({claim['relation']}{note})"))
    console.print("\n[bold]Rests on[/bold]\n" + (", ".join(statement.depends) or "nothing"))
    if entry:
        console.print("\n[bold]Assured by[/bold]\n" + (", ".join(entry.rungs) or "nothing yet"))


@app.command("ledger")
def show_ledger(as_json: AsJson = False) -> None:
    """Show how far each statement is assured, as computed for this release."""
    entries = _ledger()
    if not entries:
        _fail("this installation carries no ledger; write it with: pytest proofs/ --update-ledger")
    if as_json:
        print(ledger.to_json(entries), end="")
    else:
        header, *rows = ledger.table(entries)
        table = Table(*header, title=f"Ledger of nondecoupling {__version__}")
        for row in rows:
            table.add_row(*map(escape, row))
        _console().print(table)
    if not all(entry.established for entry in entries.values()):
        raise typer.Exit(ExitStatus.REFUTED)


# --- check, attack, certify -------------------------------------------------------------------


@app.command()
def check(
    statement_id: StatementId,
    worlds: Annotated[
        int, typer.Option(callback=_at_least(1), help="How many random worlds.")
    ] = 100_000,
    responses: Annotated[
        int, typer.Option(callback=_at_least(2), help="Responses in each world.")
    ] = 4,
    seed: Seed = 0,
    claim: ClaimName = None,
    as_json: AsJson = False,
) -> None:
    """Check a statement on random worlds. Sampling refutes, it never proves."""
    statement = _narrowed(_statement(statement_id), claim)
    rng = np.random.default_rng(seed)
    tallies: dict[str, Tally] = {}
    sizes = [min(CHUNK, worlds - start) for start in range(0, worlds, CHUNK)]
    for size in _with_progress(sizes, f"{statement.id}: chunks of worlds", hidden=as_json):
        arguments = sample_worlds(statement.world, rng, size, responses)
        for result in check_arguments(statement, arguments):
            tallies.setdefault(result.claim, Tally()).add(result, arguments)
    rows = [tally.row(name) for name, tally in tallies.items()]
    settings = {"worlds": worlds, "responses": responses, "seed": seed}
    _report("check", statement_id, settings, rows, as_json)


@app.command()
def attack(
    statement_id: StatementId,
    claim: ClaimName = None,
    responses: Annotated[
        int, typer.Option(callback=_at_least(2), help="Responses in each world.")
    ] = 3,
    restarts: Annotated[
        int, typer.Option(callback=_at_least(1), help="Worlds descended from at once.")
    ] = 128,
    steps: Annotated[int, typer.Option(callback=_at_least(1), help="Gradient steps.")] = 150,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Search for the world with the smallest margin; of a false claim, for the smallest witness."""
    statement = _statement(statement_id)
    _need("torch", "attack", "torch")
    _need("flint", "attack", "proofs")
    found = [c for c in _claims(_narrowed(statement, claim)) if c.relation != "=="]
    if not found:
        what = (
            f"--claim {claim!r} is an identity" if claim else f"{statement.id} has identities only"
        )
        _fail(f"{what}, with no margin to attack; use: nondecoupling check {statement.id}")
    rows = [
        _attacked(statement, c, responses=responses, restarts=restarts, steps=steps, seed=seed)
        for c in _with_progress(found, f"{statement.id}: claims", hidden=as_json)
    ]
    settings = {"responses": responses, "restarts": restarts, "steps": steps, "seed": seed}
    _report("attack", statement_id, settings, rows, as_json)


@app.command()
def certify(
    statement_id: StatementId,
    data: Annotated[str | None, typer.Option(metavar=LAW, help="The data law d.")] = None,
    ref: Annotated[str | None, typer.Option(metavar=LAW, help="The policy RL starts from.")] = None,
    policy: Annotated[str | None, typer.Option(metavar=LAW, help="Any policy p.")] = None,
    reward: Annotated[str | None, typer.Option(metavar=REALS, help="One per response.")] = None,
    beta: Annotated[str | None, typer.Option(metavar="X", help="Strength of the leash.")] = None,
    others: Annotated[
        list[str] | None,
        typer.Option("--set", metavar=f"FIELD={REALS}", help="Any other field of the world."),
    ] = None,
    claim: ClaimName = None,
    as_json: AsJson = False,
) -> None:
    """Decide a statement on one rational world by interval arithmetic: a theorem about that world.

    Numbers are fractions or decimals, taken exactly: --data 1/4,3/4 --reward 0,1 --beta 1/2.
    """
    statement = _narrowed(_statement(statement_id), claim)
    given = {"log_d": data, "log_ref": ref, "log_p": policy, "reward": reward, "beta": beta}
    texts = {name: text for name, text in given.items() if text is not None}
    for assignment in others or []:
        name, equals, text = assignment.partition("=")
        if not equals:
            _fail(f"--set {assignment!r}: write FIELD=VALUES, for example --set slack=1/2")
        if name in OPTION_OF_FIELD:
            _fail(f"--set {assignment!r}: give {name} with {OPTION_OF_FIELD[name]}")
        texts[name] = text
    world = _world(statement, texts)
    _need("flint", "certify", "proofs")
    from nondecoupling.certify import certify as certified
    from nondecoupling.certify import is_equality_case

    false_claims = {c.name for c in _claims(statement) if c.refuted}
    rows = []
    for verdict in certified(statement, world):
        reason = verdict.reason
        if is_equality_case(verdict):
            reason = "the two sides agree to more than 25 digits, where balls cannot decide"
        rows.append(
            Row(
                verdict.claim,
                verdict.claim in false_claims,
                _status(verdict.status, verdict.claim in false_claims),
                {
                    "lhs": verdict.lhs,
                    "rhs": verdict.rhs,
                    "margin": verdict.margin,
                    "radius": verdict.tolerance,
                },
                reason,
            )
        )
    _report("certify", statement_id, {"world": str(world)}, rows, as_json)


@dataclass
class Tally:
    """What the chunks of a check add up to, for one claim."""

    refuted_by_theory: bool = False
    applied: int = 0
    violated: int = 0
    undecided: int = 0
    room: float = math.inf
    margin: float = math.nan
    tolerance: float = math.nan
    world: dict[str, Any] | None = None

    def add(self, result: BatchResult, arguments: Mapping[str, np.ndarray]) -> None:
        decided = result.applies & ~result.undecided
        self.refuted_by_theory = result.refuted_by_theory
        self.applied += int(result.applies.sum())
        self.violated += int((result.violated & decided).sum())
        self.undecided += int(result.undecided.sum())
        margin = -np.abs(result.margin) if result.is_identity else result.margin
        with np.errstate(invalid="ignore"):  # inf - inf in a world that stays undecided
            room = np.where(decided, margin + result.error, np.inf)
        worst = int(np.argmin(room))
        if decided.any() and room[worst] < self.room:
            self.room = float(room[worst])
            self.margin = float(result.margin[worst])
            self.tolerance = float(result.error[worst])
            self.world = _float_world({name: a[worst] for name, a in arguments.items()})

    def row(self, claim: str) -> Row:
        reason = ""
        if self.violated:
            status = _status(Status.REFUTED, self.refuted_by_theory)
            reason = f"{self.violated} of {self.applied} worlds violate it"
        elif not self.applied:
            status = Status.OUT_OF_SCOPE.value
            reason = "its conditions hold in none of the worlds"
        elif self.undecided == self.applied:
            status = Status.UNDECIDED.value
            reason = "the error bound is infinite in every world"
        elif self.refuted_by_theory:
            status = NO_COUNTEREXAMPLE
            reason = "false by the theory; attack searches for its counterexample"
        else:
            status = Status.HOLDS.value
        numbers = {
            "worlds": self.applied,
            "undecided": self.undecided,
            "margin": self.margin,
            "tolerance": self.tolerance,
        }
        world = self.world if self.violated else None
        return Row(claim, self.refuted_by_theory, status, numbers, reason, world)


def _attacked(statement: StatementType, claim: Claim, **options: Any) -> Row:
    from nondecoupling.attack import attack as search
    from nondecoupling.attack import smallest_witness

    result = search(statement, claim.name, **options)
    numbers = {"margin": result.margin, "tolerance": result.error, "tightness": result.tightness}
    world: dict[str, Any] | None = None
    if claim.refuted:
        witness = smallest_witness(statement, claim.name)
        status = Status.REFUTED if witness or result.violation else Status.UNDECIDED
        reason = f"smallest witness: {witness}" if witness else "no small rational witness found"
        world = _float_world(result.world) if result.violation and not witness else None
    elif result.violation:
        status, reason, world = Status.REFUTED, "violated", _float_world(result.world)
    elif math.isfinite(result.tightness):
        status, reason = Status.HOLDS, "no violation found"
    else:
        status, reason = Status.OUT_OF_SCOPE, "no world met the conditions"
    return Row(
        claim.name, claim.refuted, _status(status, claim.refuted), numbers, reason, world
    )  # fmt: skip


# --- frontier ---------------------------------------------------------------------------------


@app.command()
def frontier(
    data: Annotated[str, typer.Option(metavar=LAW, help="The data law d.")],
    reward: Annotated[str, typer.Option(metavar=REALS, help="Reward of each response.")],
    beta: Annotated[
        str | None, typer.Option(metavar="X", help="Also say where the tilt at this beta lies.")
    ] = None,
    points: Annotated[
        int, typer.Option(callback=_at_least(2), help="Rewards between J(d) and max r.")
    ] = 11,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw it, as .png, .pdf or .svg.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """The least SFT loss increase that buys each reward (S5), beside what KL-regularised RL pays.

    The policy starts at the data law. Losses are in nats per response.
    """
    fields: dict[str, Field] = {"log_d": Law(), "reward": Reward()}
    texts = {"log_d": data, "reward": reward}
    if beta is not None:
        fields["beta"], texts["beta"] = Positive(), beta
    world = _world_of_fields("frontier", fields, texts).floats(fields)
    log_d, rewards = world["log_d"][0], world["reward"][0]
    curve = _frontier(log_d, rewards, points)
    tilt = _tilt_point(log_d, rewards, float(world["beta"][0, 0])) if beta is not None else None
    if plot is not None:
        _plot_frontier(plot, curve, tilt, log_d, rewards)
    if as_json:
        drawn = str(plot) if plot else None
        _print_json({"data": data, "reward": reward, "points": curve, "tilt": tilt, "plot": drawn})
        return
    table = Table(
        "reward", "least SFT loss increase", "SFT loss increase of RL", "at beta",
        title="Price of reward, in nats per response",
    )  # fmt: skip
    for point in curve:
        table.add_row(*(_number(point[key]) for key in ("reward", "price", "tilt_price", "beta")))
    console = _console()
    console.print(table)
    if tilt:
        console.print(
            f"RL at beta = {beta} reaches reward {_number(tilt['reward'])} and raises the SFT loss "
            f"by {_number(tilt['tilt_price'])}; the least for that reward is "
            f"{_number(tilt['price'])}."
        )
    if plot:
        console.print(f"drawn in {plot}", markup=False)


def _frontier(log_d: np.ndarray, rewards: np.ndarray, points: int) -> list[dict[str, float]]:
    """Targets from J(d) up to, but without, max r, where the price is infinite or a corner."""
    least, top = float(bounds.expected_reward(log_d, rewards)), float(rewards.max())
    if least == top:
        _fail(
            "--reward: all the data's mass has the highest reward already, so there is no frontier"
        )
    targets = np.linspace(least, top, points + 1)[:-1]
    rows = np.broadcast_to(log_d, (points, log_d.size))
    prices = bounds.price_of_reward(rows, np.broadcast_to(rewards, rows.shape), targets)
    betas = _betas_reaching(log_d, rewards, targets)
    reachable = np.isfinite(betas)
    tilt_prices = bounds.coupling_gap(
        rows, np.broadcast_to(rewards, rows.shape), np.where(reachable, betas, 1.0)
    )
    start = targets == least
    tilt_prices = np.where(start, 0.0, np.where(reachable, tilt_prices, np.inf))
    betas = np.where(start, np.inf, np.where(reachable, betas, np.nan))
    return [
        {"reward": float(c), "price": float(k), "tilt_price": float(t), "beta": float(b)}
        for c, k, t, b in zip(targets, prices, tilt_prices, betas, strict=True)
    ]


def _betas_reaching(log_d: np.ndarray, rewards: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """beta with J(tilt) = target, by bisection in log beta; inf where no beta reaches it."""
    spread = float(np.ptp(rewards))
    low = np.full(targets.shape, math.log(1e-9 * spread))
    high = np.full(targets.shape, math.log(1e9 * spread))
    rows = np.broadcast_to(log_d, (targets.size, log_d.size))
    rewards = np.broadcast_to(rewards, rows.shape)

    def reached(log_beta: np.ndarray) -> np.ndarray:
        return bounds.expected_reward(bounds.gibbs_tilt(rows, rewards, np.exp(log_beta)), rewards)

    reachable = reached(low) > targets
    for _ in range(80):
        middle = 0.5 * (low + high)
        enough = reached(middle) >= targets
        low, high = np.where(enough, middle, low), np.where(enough, high, middle)
    return np.where(reachable, np.exp(low), np.inf)


def _tilt_point(log_d: np.ndarray, rewards: np.ndarray, beta: float) -> dict[str, float]:
    reached = bounds.expected_reward(bounds.gibbs_tilt(log_d, rewards, beta), rewards)
    return {
        "beta": beta,
        "reward": float(reached),
        "price": float(bounds.price_of_reward(log_d, rewards, float(reached))),
        "tilt_price": float(bounds.coupling_gap(log_d, rewards, beta)),
    }


def _plot_frontier(
    path: Path,
    curve: list[dict[str, float]],
    tilt: dict[str, float] | None,
    log_d: np.ndarray,
    rewards: np.ndarray,
) -> None:
    _need("matplotlib", "--plot", "experiments")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.0, 4.0), layout="constrained")
    axes = figure.subplots()
    fine = _frontier(log_d, rewards, 200)
    reward = [point["reward"] for point in fine]
    path_of_rl = [p["tilt_price"] if math.isfinite(p["tilt_price"]) else math.nan for p in fine]
    axes.plot(reward, [p["price"] for p in fine], label="least possible, any algorithm (S5)")
    axes.plot(reward, path_of_rl, "--", label="KL-regularised RL, beta falling")
    axes.plot([p["reward"] for p in curve], [p["price"] for p in curve], "o", color="C0", ms=3)
    if tilt:
        label = f"RL at beta = {tilt['beta']:g}"
        axes.plot(tilt["reward"], tilt["tilt_price"], "D", color="C1", label=label)
    axes.set_xlabel("expected reward")
    axes.set_ylabel("increase of the SFT loss (nats per response)")
    axes.legend()
    try:
        figure.savefig(path, dpi=150)
    except (OSError, ValueError) as error:
        _fail(f"--plot {str(path)!r}: cannot be written: {error}")


# --- worlds from the command line -------------------------------------------------------------


def _world(statement: StatementType, texts: Mapping[str, str]) -> World:
    for name, field_ in statement.world.items():
        if isinstance(field_, Same) and name in texts:
            _fail(
                f"{_option(name)}: {statement.id} assumes {field_.named(name)}, "
                f"so give {_option(field_.other)} only"
            )
    free = {name: f for name, f in statement.world.items() if not isinstance(f, Same)}
    return _world_of_fields(statement.id, free, texts)


def _world_of_fields(who: str, fields: Mapping[str, Field], texts: Mapping[str, str]) -> World:
    """The world that the options spell out; an error names the option, the value, the remedy."""
    needed = ", ".join(_option(name) for name in fields)
    for name in texts:
        if name not in fields:
            _fail(f"{_option(name)}: {who} has no such field; it takes {needed}")
    for name in fields:
        if name not in texts:
            _fail(f"{_option(name)} is missing: {who} takes {needed}")
    values = {name: _fractions(_option(name), text) for name, text in texts.items()}
    counts = {name: len(values[name]) for name, f in fields.items() if f.per_response}
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"{_option(name)} has {count}" for name, count in counts.items())
        _fail(f"every response needs one number in each option: {listed}")
    for name, field_ in fields.items():
        problem = _problem(field_, values[name])
        if problem:
            _fail(f"{_option(name)} {texts[name]}: {problem}")
    return World({name: values[name] for name in fields})


def _problem(field_: Field, values: Fractions) -> str:
    """Why the values are none that the field takes, or nothing."""
    if not field_.per_response and len(values) != 1:
        return f"takes one number, not {len(values)}"
    if isinstance(field_, Positive) and values[0] <= 0:
        return "must be positive"
    if isinstance(field_, Unit) and not 0 < values[0] < 1:
        return "must lie strictly between 0 and 1"
    if isinstance(field_, Law):
        if min(values) < 0 or sum(values) != 1:
            return (
                f"probabilities are nonnegative and sum to one exactly, these sum to {sum(values)}; "
                "write them as fractions, for example 1/3,2/3"
            )
        if field_.full_support and min(values) == 0:
            return "this law needs a positive probability for every response"
    return ""


def _fractions(option: str, text: str) -> Fractions:
    numbers = []
    for part in text.split(","):
        try:
            numbers.append(Fraction(part.strip()))
        except (ValueError, ZeroDivisionError):
            _fail(
                f"{option} {text}: {part!r} is not a number; write fractions or decimals: 1/4,0.75"
            )
    return tuple(numbers)


def _option(name: str) -> str:
    return OPTION_OF_FIELD.get(name, f"--set {name}=...")


def _describe(name: str, field_: Field) -> str:
    if isinstance(field_, Same):
        return f"the same as {field_.other}"
    what = type(field_).__name__.lower()
    if isinstance(field_, Law):
        what = "law with full support" if field_.full_support else "law, zeros allowed"
    elif isinstance(field_, Unit):
        what = "number between 0 and 1"
    elif isinstance(field_, Positive):
        what = "positive number"
    return f"{what} ({_option(name)})"


# --- small parts ------------------------------------------------------------------------------


def _statement(statement_id: str) -> StatementType:
    try:
        return catalog.statement(statement_id.upper())
    except KeyError as error:
        _fail(error.args[0])


def _claims(statement: StatementType) -> list[Claim]:
    """The claims of a statement, evaluated on one random world: only their names are of use."""
    world = sample_worlds(statement.world, np.random.default_rng(0), 1, 3)
    xp = floats_of(*world.values())
    with np.errstate(all="ignore"):
        return list(statement.claims(xp, Arguments(world)))


def _narrowed(statement: StatementType, claim: str | None) -> StatementType:
    if claim is None:
        return statement
    names = [c.name for c in _claims(statement)]
    if claim not in names:
        _fail(f"--claim {claim!r}: {statement.id} claims {', '.join(map(repr, names))}")
    return only(statement, claim)


def _status(status: Status, refuted_by_theory: bool) -> str:
    as_it_should = refuted_by_theory and status is Status.REFUTED
    return AS_THE_THEORY_SAYS if as_it_should else status.value


def _float_world(arguments: Mapping[str, Any]) -> dict[str, list[float]]:
    """A world as a reader wants it: laws as probabilities."""
    return {
        name.removeprefix("log_"): (np.exp(values) if name.startswith("log_") else values).tolist()
        for name, values in ((k, np.asarray(v)) for k, v in arguments.items())
    }


def _ledger() -> dict[str, ledger.Entry]:
    try:
        return ledger.load()
    except FileNotFoundError:
        return {}


def _need(module: str, what: str, extra: str) -> None:
    try:
        import_module(module)
    except ImportError:
        _fail(f"{what} needs {module}: pip install 'nondecoupling[{extra}]'")


@contextmanager
def _progress(hidden: bool) -> Iterator[Progress]:
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
    console = Console(stderr=True)
    with Progress(
        *columns, TimeRemainingColumn(), console=console, transient=True, disable=hidden
    ) as progress:
        yield progress


def _with_progress(items: list[Any], description: str, *, hidden: bool) -> Iterator[Any]:
    with _progress(hidden) as progress:
        yield from progress.track(items, description=description)


def _report(
    command: str, statement_id: str, settings: dict[str, Any], rows: list[Row], as_json: bool
) -> NoReturn:
    """Print the rows and leave with the status that sums them up."""
    statuses = {row.exit_status() for row in rows}
    worst = ExitStatus.HOLDS
    for status in (ExitStatus.UNDECIDED, ExitStatus.REFUTED):
        worst = status if status in statuses else worst
    if as_json:
        claims = [
            {
                "claim": row.claim,
                "status": row.status,
                "refuted_by_theory": row.refuted_by_theory,
                **row.numbers,
                "reason": row.reason,
                "world": row.world,
            }
            for row in rows
        ]
        answer = {"command": command, "statement": statement_id.upper(), **settings}
        _print_json({**answer, "claims": claims, "exit_status": int(worst)})
        raise typer.Exit(worst)
    statement = catalog.statement(statement_id.upper())
    said = ", ".join(f"{key} {value}" for key, value in settings.items() if key != "world")
    title = f"{statement.id}  {statement.title}" + (f"\n{said}" if said else "")
    table = Table("claim", "status", *rows[0].numbers, "remark", title=escape(title))
    for row in rows:
        style = STYLE.get(row.status, "yellow")
        cells = [_number(value) for value in row.numbers.values()]
        table.add_row(escape(row.claim), f"[{style}]{row.status}[/]", *cells, escape(row.reason))
    console = _console()
    if "world" in settings:
        console.print(f"world: {settings['world']}", markup=False)
    console.print(table)
    for row in rows:
        if row.world:
            console.print(f"{row.claim}: world {row.world}", markup=False)
    raise typer.Exit(worst)


def _console() -> Console:
    console = Console(highlight=False)
    # A pipe or a file has no width: let lines be as long as they need.
    return console if console.is_terminal else Console(highlight=False, width=200)


def _number(value: float) -> str:
    if isinstance(value, int):
        return str(value)
    return "-" if math.isnan(value) else f"{value:.6g}"


def _print_json(answer: Any) -> None:
    print(json.dumps(_finite(answer), indent=2))


def _finite(value: Any) -> Any:
    """JSON has no infinities: they become the strings "inf", "-inf" and "nan"."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, Iterable) and not isinstance(value, str):
        return [_finite(item) for item in value]
    return value
