"""What the float functions promise against exact arithmetic: the one table of tolerances.

For nonnegative quantities the error is relative, for signed ones relative to the sum of the
absolute values of the terms (``scale``). Units are the machine epsilon of the dtype.

Where the constants come from: exp of a log-probability down to the smallest normal number carries
|log p| <= 709 (float64) or 88 (float32) units of roundoff; the primitive ``excess`` loses a factor
of at most 6 outside its series; sums of n terms add log-like growth under pairwise summation. 1024
units cover these for any n up to 10^5; ``tests/test_accuracy.py`` measures them.
"""

from __future__ import annotations

RELATIVE_UNITS = 1024

# Signed quantities, and what their error is relative to.
SIGNED = {
    "log_partition": "|max r|/beta + max |log ref| + range(r)/beta",
    "gibbs_tilt": "|log ref| + range(r)/beta, per entry",
    "expected_reward": "|r(mode)| + E_p |r - r(mode)|",
    "regularized_reward": "|r(mode)| + E_p |r - r(mode)| + beta KL",
    "sft_loss_increase": "|log Z| + E_d |r - r(mode)|/beta",
    "coupling_from_run": "|reward gain|/beta + KL",
    "sft_loss_change": "KL(ref||p) + (E_d + E_ref) |log(p/ref)|",
    "reward_drop": "beta times the sum of the three divergences",
}

# Nonnegative quantities with relative accuracy at the given float inputs.
RELATIVE = ("kl_divergence", "cross_entropy", "entropy", "coupling_gap", "coupling_gap_bounds")

# Nonnegative, but of a tilt that is itself computed: u = log(tilt/p) is a difference of numbers of
# size s = max |log| + range(r)/beta, so KL moves by sqrt(2 KL) s eps + (s eps)^2.
THROUGH_A_TILT = ("regularized_reward_drop", "reward_drop_in_kl_ball", "cycle_loss")

# overpayment likewise: log z = log(p b/d) has size s = max |log d| + max |log p| + |log((M - J(p))/R)|, and the value
# moves by sqrt(2 value) s eps + (s eps)^2. That is far below eps of what was paid.
THROUGH_A_FRONTIER = ("overpayment",)

# Closed forms whose error is bounded by running error analysis (``roundoff``): the float result lies
# within twice that bound of the exact value.
DERIVED = (
    "sft_loss_gradient",
    "reward_gradient",
    "implicit_reward",
    "samples_to_detect",
    "sft_step_reward_slope",
    "supporting_line",
    "highest_reward",
    "pl_sft_bound",
    "pl_reward_bound",
    "logit_sandwich",
)

# Of schedules: relative for what is nonnegative; log-probabilities relative to the scale named.
SCHEDULES = {
    "alternation_limit": "1 + max |log d| + s range(r), per entry",
    "alternation_rate": "(1 + max |log d| + s range(r)) times itself",
    "best_of_n_bounds": "itself",
    "best_of_n_policy": "1 + max |log ref| + |log pi_n|, per entry",
    "frontier_weights": "(1 + |log d|) times itself; near beta = range(r) times its condition in beta",
    "leashless_policy": "1 + max |log| + sum (1/ref + 1/ref(leader) + tau |r - r(leader)|)/D, per entry",
    "replay_bound": "itself",
    "weighted_sft_optimum": "1 + (max |log d| + 1)/(1 - a), per entry",
}

# What is found by a root or a spectrum, and closed forms held to the same measure: errors of at most so
# many times the change of the exact value when every input moves by one relative eps, plus eps times the
# value. To that come eps times 1 + rate max |r| for log-probabilities and lines, eps times step
# range(direction) for the change of a step, and eps for the frontier's losses, since a law sums to one
# within it (``tests/test_accuracy_roots.py``).
ROOT_UNITS = 256
ROOTS = dict.fromkeys(
    (
        "approximate_price_of_reward",
        "best_early_stop",
        "decoupling_threshold",
        "frontier_policy",
        "frontier_rate",
        "joint_gap",
        "joint_optimum",
        "joint_path",
        "joint_saving_bounds",
        "kernel_cosine",
        "optimal_rl_duration",
        "pareto_frontier",
        "price_of_average_reward",
        "price_of_policy",
        "price_of_reward",
        "reward_change_bounds",
        "reward_change_extremes",
        "rl_improves_sft_threshold",
        "shared_prompt_loss_increase",
        "spectral_misalignment_bound",
        "token_kl_divergence",
    ),
    ROOT_UNITS,
)
# The condition is a difference of logarithms of masses, each up to 709 (float64) in size.
ROOTS["optimal_rl_duration"] = RELATIVE_UNITS

# Built on a root, yet promised: signed, relative to the scale named.
SIGNED_ROOTS = {"gold_gain_bound": "(E_p + E_ref) |r - r(mode)| + range(r - g)(1 + sqrt(KL/2))"}

# Of success rates given as numbers: relative, from rates of the smallest normal number to one less an eps.
OF_SUCCESS_RATES = ("verifiable_beta", "verifiable_cost")

# Of trainers: within ``RELATIVE_UNITS`` units of the scale named, roots included. A root's own condition number is
# 1/(1 - h'/beta), h' the slope of h in the log-odds: it grows only where two roots meet.
TRAINERS = {
    "critical_beta": "itself",
    "expected_gradient": "p (|r - r(mode)| + beta |v| + alpha |log p|), per entry, plus p times the sum of these",
    "entropy_bonus_optimum": "(max |log ref| + range(r - alpha log ref)/(alpha + beta) + 1), per entry",
    "forward_leash_optimum": "1 + |log p|, per entry",
    "forward_regularized_reward": "|r(mode)| + E_p |r - r(mode)| + beta KL",
    "group_advantage_factor": "itself",
    "group_normalized_success": "itself, times (1 + |logit a|) and the condition number of the root",
    "noisy_beta": "itself over 1 - f0 - f1",
    "per_token_optimum": "(1 + range(r)/beta + max |log ref|) times the number of tokens, per entry",
    "stationary_policy": "1 + |log p| + max |log ref| + range(r)/beta, per entry, times the condition of a root",
}

# Answers without a rounding error: the rewards are compared as they are.
EXACT = ("decoupled",)
