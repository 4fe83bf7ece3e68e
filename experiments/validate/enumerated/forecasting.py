"""The forecast of RL from a ref, made from responses that are drawn from its law."""

from __future__ import annotations

from functools import partial

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from nondecoupling.forecast import Samples
from validate.configuration import EnumeratedConfiguration
from validate.enumerated.endings import recipe_of
from validate.enumerated.task import EnumeratedTask
from validate.forecasts import EXPERTS, drawn_rewards, generator_of, write_forecast
from validate.orders import Stage
from validate.run_folder import RunFolder

__all__ = ["RESPONSES", "forecast_rl"]

# Responses of ref to each prompt that a forecast sees.
RESPONSES = 32


def forecast_rl(
    config: EnumeratedConfiguration,
    folder: RunFolder,
    task: EnumeratedTask,
    rl: Stage,
    log_ref: NDArray[np.float64],
    console: Console,
) -> None:
    """Before the first step of RL from ref."""
    samples = partial(_samples, config, task, rl, log_ref)
    write_forecast(folder, rl, samples, config.beta, recipe_of(config), console)


def _samples(
    config: EnumeratedConfiguration, task: EnumeratedTask, rl: Stage, log_ref: NDArray[np.float64]
) -> Samples:
    """Of ref, and of the experts; self-distilled data are ref's own, whose loss a forecast has anyway."""
    rng = generator_of(config, rl)
    drawn = drawn_rewards(rng, log_ref, task.reward, RESPONSES)
    experts = drawn_rewards(rng, task.log_d, task.reward, EXPERTS)
    return Samples(
        drawn,
        reward_bounds=(task.reward.min(), task.reward.max()),
        expert_rewards=None if config.self_distilled else experts,
    )
