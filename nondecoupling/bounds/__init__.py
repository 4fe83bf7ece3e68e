"""The numeric API: every quantity and bound of the theory, batched, in NumPy or torch.

Conventions. Laws are log-probabilities (``log_p``; ``-inf`` for zero mass) in natural logarithms;
losses and divergences are in nats per response. The last axis lists the responses, leading axes
are a batch of prompts or worlds; per-world numbers (``beta``, ``target``) are scalars or have the
batch shape, and so have the results. A grid of betas: any shape without a batch, else as a leading axis
of all (``log_d[None], reward[None], beta[:, None]``). dtype and device in = dtype and device out (float32 or
float64); in torch everything is differentiable, with gradients meant along the simplex.

Errors, for every function: ``ValueError`` naming the argument, the value and the remedy, for NaN, rows that do
not sum to one within sqrt(eps) of their dtype, ``beta <= 0``, non-finite rewards and shapes that do not match.
A number so large or small that the formula would overflow is named as well, and a root that is not found is an
``ArithmeticError``. Nothing is renormalised. Sources: statement ids refer to ``nondecoupling.theory.catalog``.

>>> import numpy as np
>>> d, r = np.log([0.5, 0.3, 0.2]), np.array([0.0, 1.0, 3.0])
>>> float(coupling_gap(d, r, beta=1.0))  # RL at beta = 1 raises the SFT loss by this much
0.7738...
"""

from __future__ import annotations

from nondecoupling.bounds.checks import unchecked
from nondecoupling.bounds.joint import (
    decoupled,
    joint_gap,
    joint_optimum,
    joint_path,
    joint_saving_bounds,
    pareto_frontier,
    shared_prompt_loss_increase,
)
from nondecoupling.bounds.laws import (
    cross_entropy,
    entropy,
    expected_reward,
    gibbs_tilt,
    implicit_reward,
    kl_divergence,
    log_partition,
    regularized_reward,
    token_kl_divergence,
)
from nondecoupling.bounds.logits import (
    kernel_cosine,
    logit_sandwich,
    pl_reward_bound,
    pl_sft_bound,
    reward_gradient,
    rl_improves_sft_threshold,
    sft_loss_gradient,
    spectral_misalignment_bound,
)
from nondecoupling.bounds.price import (
    approximate_price_of_reward,
    frontier_policy,
    frontier_rate,
    highest_reward,
    overpayment,
    price_of_average_reward,
    price_of_policy,
    price_of_reward,
    supporting_line,
)
from nondecoupling.bounds.proxy import gold_gain_bound
from nondecoupling.bounds.recipes import expected_gradient, stationary_policy
from nondecoupling.bounds.results import (
    BestOfNBounds,
    DecouplingThreshold,
    Duration,
    EarlyStop,
    Frontier,
    FrontierPolicy,
    GroupNormalizedSuccess,
    Range,
    StationaryPolicy,
    StepChange,
)
from nondecoupling.bounds.rl_then_sft import (
    cycle_loss,
    regularized_reward_drop,
    reward_change_bounds,
    reward_change_extremes,
    reward_drop,
    reward_drop_in_kl_ball,
    sft_step_reward_slope,
)
from nondecoupling.bounds.schedules import (
    alternation_limit,
    alternation_rate,
    best_of_n_bounds,
    best_of_n_policy,
    frontier_weights,
    leashless_policy,
    replay_bound,
    weighted_sft_optimum,
)
from nondecoupling.bounds.sft_then_rl import (
    best_early_stop,
    coupling_from_run,
    coupling_gap,
    coupling_gap_bounds,
    decoupling_threshold,
    optimal_rl_duration,
    samples_to_detect,
    sft_loss_change,
    sft_loss_increase,
)
from nondecoupling.bounds.trainers import (
    critical_beta,
    entropy_bonus_optimum,
    forward_leash_optimum,
    forward_regularized_reward,
    group_advantage_factor,
    group_normalized_success,
    noisy_beta,
    per_token_optimum,
)
from nondecoupling.bounds.verifiable import verifiable_beta, verifiable_cost

__all__ = [
    "BestOfNBounds",
    "DecouplingThreshold",
    "Duration",
    "EarlyStop",
    "Frontier",
    "FrontierPolicy",
    "GroupNormalizedSuccess",
    "Range",
    "StationaryPolicy",
    "StepChange",
    "alternation_limit",
    "alternation_rate",
    "approximate_price_of_reward",
    "best_early_stop",
    "best_of_n_bounds",
    "best_of_n_policy",
    "coupling_from_run",
    "coupling_gap",
    "coupling_gap_bounds",
    "critical_beta",
    "cross_entropy",
    "cycle_loss",
    "decoupled",
    "decoupling_threshold",
    "entropy",
    "entropy_bonus_optimum",
    "expected_gradient",
    "expected_reward",
    "forward_leash_optimum",
    "forward_regularized_reward",
    "frontier_policy",
    "frontier_rate",
    "frontier_weights",
    "gibbs_tilt",
    "gold_gain_bound",
    "group_advantage_factor",
    "group_normalized_success",
    "highest_reward",
    "implicit_reward",
    "joint_gap",
    "joint_optimum",
    "joint_path",
    "joint_saving_bounds",
    "kernel_cosine",
    "kl_divergence",
    "leashless_policy",
    "log_partition",
    "logit_sandwich",
    "noisy_beta",
    "optimal_rl_duration",
    "overpayment",
    "pareto_frontier",
    "per_token_optimum",
    "pl_reward_bound",
    "pl_sft_bound",
    "price_of_average_reward",
    "price_of_policy",
    "price_of_reward",
    "regularized_reward",
    "regularized_reward_drop",
    "replay_bound",
    "reward_change_bounds",
    "reward_change_extremes",
    "reward_drop",
    "reward_drop_in_kl_ball",
    "reward_gradient",
    "rl_improves_sft_threshold",
    "samples_to_detect",
    "sft_loss_change",
    "sft_loss_gradient",
    "sft_loss_increase",
    "sft_step_reward_slope",
    "shared_prompt_loss_increase",
    "spectral_misalignment_bound",
    "stationary_policy",
    "supporting_line",
    "token_kl_divergence",
    "unchecked",
    "verifiable_beta",
    "verifiable_cost",
    "weighted_sft_optimum",
]
