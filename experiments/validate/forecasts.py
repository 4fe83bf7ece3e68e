"""Forecasts of RL that a run writes before RL's first step, one for each ref, and reading them afterwards.

forecast-<ref>.json is what ``nondecoupling.forecast`` says at the run's beta, as ``Forecast.save`` writes it, with the
responses that it saw; or why no forecast could be made of these.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from nondecoupling.forecast import Forecast, Samples, forecast
from nondecoupling.recipes import Recipe
from validate.checksums import read_sealed_json, sealed
from validate.configuration import RunConfiguration, command
from validate.disk import read_json
from validate.errors import RunFolderError
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
REFUSED = "refused"
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
    """The forecast of a stage that has not begun, unless it is there already; why, where none can be made."""
    name = _name(rl)
    if not folder.writes or (folder.path / name).exists():
        return
    try:
        written = _as_saved(forecast(samples(), betas=[beta], recipe=recipe))
        told = f"forecast of {rl.title}, written before it: {_in_words(written)}"
    except (
        ValueError
    ) as error:  # too few prompts, no spread, rewards that the recipe does not go with
        written = {REFUSED: str(error)}
        told = f"no forecast of {rl.title}: {error}"
    folder.replace(name, (json.dumps(sealed(name, written)) + "\n").encode())
    console.print(told, highlight=False, markup=False)


def read_forecast(folder: RunFolder, rl: Stage, config: RunConfiguration) -> WrittenForecast:
    """
    Raises:
        NoForecast: none was written before the stage, or none could be made, or it is damaged.
    """
    place = folder.path / _name(rl)
    again = f"run it anew: {command(config)}"
    if not place.exists():
        raise NoForecast(
            f"{place} is missing: RL began before runs wrote forecasts, and none is made afterwards; {again}"
        )
    try:
        written = read_sealed_json(place)
    except RunFolderError as error:
        raise NoForecast(f"{error}; bring it back as it was, or {again}") from None
    if REFUSED in written:
        raise NoForecast(f"no forecast could be made before RL: {written[REFUSED]}")
    return WrittenForecast(_at_beta(written), Forecast.load(place))


def drawn_rewards(rng: np.random.Generator, log_p: Numbers, reward: Numbers, k: int) -> Numbers:
    """Rewards of k responses to each prompt, [prompts, k], drawn from a law over listed responses."""
    chosen = [rng.choice(len(p), size=k, p=p / p.sum()) for p in np.exp(log_p)]
    return np.take_along_axis(reward, np.stack(chosen), axis=1)


def generator_of(config: RunConfiguration, rl: Stage) -> np.random.Generator:
    """Of what a forecast draws: the same for a run that is resumed."""
    return np.random.default_rng([config.seed, *_name(rl).encode()])


def _name(rl: Stage) -> str:
    return f"{FORECAST}{rl.ref}.json"


def _as_saved(made: Forecast) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "forecast.json"
        made.save(place)
        return read_json(place)


def _at_beta(written: dict[str, Any]) -> dict[str, Any]:
    (answer,) = written["answers"]["at_beta"]
    found: dict[str, Any] = answer
    return found


def _in_words(written: dict[str, Any]) -> str:
    answer = _at_beta(written)
    if "unsupported" in answer:
        return str(answer["unsupported"])
    reward, loss = answer["reward"]["value"], answer["own_loss_change"]["value"]
    return f"reward {reward:.3g}, for {loss:.3g} nats of SFT loss on the start policy's own data"
