"""Forecasts of RL that a run writes before RL's first step, one for each ref, and reading them afterwards.

forecast-<ref>.json is what ``nondecoupling.forecast`` says at the run's beta, as ``Forecast.save`` writes it, with the
responses that it saw; or why no forecast could be made of these; or with which error making it failed, which is a
fault of the program.
"""

from __future__ import annotations

import json
import shlex
import tempfile
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from nondecoupling.forecast import Forecast, NoSpread, Samples, TooFewPrompts, forecast
from nondecoupling.recipes import Recipe
from validate.checksums import read_sealed_json, sealed
from validate.configuration import RunConfiguration, command
from validate.disk import read_json
from validate.errors import RunError, RunFolderError
from validate.orders import Stage, plan
from validate.run_folder import FORECAST, RunFolder

__all__ = [
    "EXPERTS",
    "NoForecast",
    "WrittenForecast",
    "drawn_rewards",
    "generator_of",
    "read_forecast",
    "rl_stages",
    "write_forecast",
]

# Responses of the experts per prompt that a forecast sees.
EXPERTS = 16
REFUSED, FAILED = "refused", "failed"
Numbers = NDArray[np.float64]


class NoForecast(RunFolderError):
    """A run has no forecast of an RL stage; the message says why."""


@dataclass(frozen=True)
class WrittenForecast:
    """What was written before RL: ``at_beta``, the answer at the run's beta, and the forecast for other questions."""

    at_beta: dict[str, Any]
    forecast: Forecast


def rl_stages(config: RunConfiguration) -> list[Stage]:
    """The stages that a forecast is about: RL alone, held to a ref."""
    return [stage for stage in plan(config.order) if stage.objective == "rl"]


def write_forecast(
    folder: RunFolder,
    rl: Stage,
    samples: Callable[[], Samples],
    beta: float,
    recipe: Recipe | None,
    console: Console,
) -> None:
    """The forecast of a stage that has not begun, unless it is there already; why, where none can be made.

    A forecast never stops a run: an error that nobody foresaw is written in its place, and shown with its traceback.

    Raises:
        RunError: ``samples`` found the run itself damaged.
    """
    name = _name(rl)
    if not folder.writes or (folder.path / name).exists():
        return
    try:
        written = _made(samples, beta, recipe)
    except RunError:
        raise
    except Exception as error:
        written = {FAILED: f"{type(error).__name__}: {error}"}
        console.print(traceback.format_exc(), highlight=False, markup=False)
    folder.replace(name, (json.dumps(sealed(name, written)) + "\n").encode())
    console.print(_in_words(rl, written), highlight=False, markup=False)


def read_forecast(folder: RunFolder, rl: Stage, config: RunConfiguration) -> WrittenForecast:
    """
    Raises:
        NoForecast: none was written before the stage, or none could be made, or it is damaged.
    """
    place = folder.path / _name(rl)
    elsewhere = shlex.quote(f"{folder.path.resolve()}-anew")
    again = f"run it anew: {command(config)} --out {elsewhere}"
    if not place.exists():
        raise NoForecast(
            f"{place} is missing: it was removed, or an earlier version began RL, and none is made afterwards; {again}"
        )
    try:
        written = read_sealed_json(place)
    except RunFolderError as error:
        raise NoForecast(f"{error}; bring it back as it was, or {again}") from None
    if REFUSED in written:
        raise NoForecast(f"no forecast could be made before RL: {written[REFUSED]}")
    if FAILED in written:
        raise NoForecast(
            f"making the forecast before RL failed, by a fault of the program: {written[FAILED]}; mend it, then {again}"
        )
    try:
        made = Forecast.load(place)
    except ValueError as error:
        raise NoForecast(f"{error}; read it with the version that wrote it, or {again}") from None
    return WrittenForecast(_at_beta(written), made)


def drawn_rewards(rng: np.random.Generator, log_p: Numbers, reward: Numbers, k: int) -> Numbers:
    """Rewards of k responses to each prompt, [prompts, k], drawn from a law over listed responses."""
    chosen = [rng.choice(len(p), size=k, p=p / p.sum()) for p in np.exp(log_p)]
    return np.take_along_axis(reward, np.stack(chosen), axis=1)


def generator_of(config: RunConfiguration, rl: Stage) -> np.random.Generator:
    """Of what a forecast draws: the same for a run that is resumed."""
    return np.random.default_rng([config.seed, *_name(rl).encode()])


def _name(rl: Stage) -> str:
    return f"{FORECAST}{rl.ref}.json"


def _made(samples: Callable[[], Samples], beta: float, recipe: Recipe | None) -> dict[str, Any]:
    """What the file says: the forecast as it is saved, or why these samples or this beta have none."""
    try:
        seen = samples()
    except (NoSpread, TooFewPrompts) as error:
        return {REFUSED: str(error)}
    try:
        made = forecast(seen, betas=[beta], recipe=recipe)
    except ValueError as error:  # of the beta; answers are computed only when they are saved
        return {REFUSED: str(error)}
    return _as_saved(made)


def _as_saved(made: Forecast) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "forecast.json"
        made.save(place)
        return read_json(place)


def _at_beta(written: dict[str, Any]) -> dict[str, Any]:
    (answer,) = written["answers"]["at_beta"]
    found: dict[str, Any] = answer
    return found


def _in_words(rl: Stage, written: dict[str, Any]) -> str:
    if REFUSED in written:
        return f"no forecast of {rl.title}: {written[REFUSED]}"
    if FAILED in written:
        return f"no forecast of {rl.title}, by a fault of the program: {written[FAILED]}"
    before, answer = f"forecast of {rl.title}, written before it:", _at_beta(written)
    if "unsupported" in answer:
        return f"{before} {answer['unsupported']}"
    reward, loss = (_number(answer[name]["value"]) for name in ("reward", "own_loss_change"))
    return f"{before} reward {reward}, for {loss} nats of SFT loss on the start policy's own data"


def _number(saved: float | None) -> str:
    """Of an estimate as it is saved: None where it is not finite."""
    return "no number" if saved is None else f"{saved:.3g}"
