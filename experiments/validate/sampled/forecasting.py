"""The forecast of RL from a ref, made from what was measured of it on the prompts that the verdicts rest on."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from rich.console import Console

from nondecoupling.forecast import Samples
from nondecoupling.recipes import Recipe
from validate.configuration import SampledConfiguration
from validate.forecasts import EXPERTS, drawn_rewards, generator_of, rl_stages, write_forecast
from validate.orders import Stage
from validate.run_folder import RunFolder
from validate.sampled.inputs import Inputs
from validate.sampled.measuring import load_measurement
from validate.sampled.trl_options import TRL_OPTIONS

__all__ = ["forecast_rl_from", "recipe_of_trl"]


def recipe_of_trl(config: SampledConfiguration) -> Recipe | None:
    """RL's recipe; None for RLOO, which maximises J - beta KL(p||ref) as it is."""
    if config.rl == "rloo":
        return None
    own = {"beta": config.beta, "num_generations": config.generations}
    return Recipe.from_trl({**own, **TRL_OPTIONS[config.rl]}, trainer="grpo")


def forecast_rl_from(
    ref: str,
    config: SampledConfiguration,
    folder: RunFolder,
    inputs: Inputs,
    measured: Path,
    console: Console,
) -> None:
    """Before RL starts from ref, if it does; ``measured`` is the measurement of ref."""
    for rl in rl_stages(config):
        if rl.ref == ref and not folder.stage_has_begun(rl.name):
            samples = partial(_samples, config, inputs, rl, measured)
            write_forecast(folder, rl, samples, config.beta, recipe_of_trl(config), console)


def _samples(config: SampledConfiguration, inputs: Inputs, rl: Stage, measured: Path) -> Samples:
    """Of ref, and of the experts; self-distilled data are ref's own, whose loss a forecast has anyway."""
    task, pilot = inputs.task, config.pilot_prompts
    ref = load_measurement(measured, len(task.evaluation)).part(pilot, None)
    rng = generator_of(config, rl)
    experts = drawn_rewards(rng, task.log_d[pilot:], ref.expert_rewards, EXPERTS)
    return Samples(
        ref.rewards,
        reward_bounds=inputs.reward.bounds,
        expert_rewards=None if config.self_distilled else experts,
    )
