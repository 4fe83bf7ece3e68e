"""Bad input is refused by name, and no random call returns a wrong number silently."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats


ONES, GOOD = np.ones(4), Interval(0.0, 1.0, 0.5, 0.5, 3, "made up")
BAD_INPUT = {
    "above": (lambda: mean_interval([0.5, 1.5], (0, 1), 0.05), r"samples\[1\]=1.5: outside bounds"),
    "nan": (
        lambda: mean_interval([[0.5, np.nan]], (0, 1), 0.05),
        r"samples\[0, 1\]=nan: must be fi",
    ),
    "empty": (
        lambda: mean_interval([], (0, 1), 0.05),
        r"samples has shape \(0,\): needs at least 1",
    ),
    "text": (lambda: mean_interval(["a"], (0, 1), 0.05), "samples=.*not a real array"),
    "scalar": (lambda: mean_interval(0.5, (0, 1), 0.05), r"samples has shape \(\)"),
    "bounds": (lambda: mean_interval(ONES, (1, 1), 0.05), r"bounds=\(1.0, 1.0\)"),
    "one bound": (lambda: mean_interval(ONES, 3, 0.05), "bounds=3: give two numbers"),
    "method": (lambda: mean_interval(ONES, (0, 1), 0.05, method="t"), "method='t': choose one of"),
    "delta 0": (lambda: mean_interval(ONES, (0, 1), 0.0), r"delta=0.0: must lie strictly"),
    "delta 1": (lambda: binomial_interval(1, 2, 1.0), r"delta=1.0"),
    "delta nan": (lambda: bootstrap_interval(ONES, np.nan), r"delta=nan"),
    "floor": (lambda: mean_lower_bound([-1.0], 0, 1, 0.05), r"samples\[0\]=-1.0: outside"),
    "too many": (lambda: binomial_interval(3, 2, 0.05), "successes=3 of trials=2"),
    "half": (lambda: binomial_interval(0.5, 2, 0.05), "successes=0.5: must be a whole number"),
    "no trials": (lambda: binomial_interval(0, 0, 0.05), "trials=0.0: .* at least 1"),
    "one unit": (lambda: bootstrap_interval([1.0], 0.05), "at least 2 samples"),
    "resamples": (lambda: bootstrap_interval(ONES, 0.05, resamples=5), "resamples=5"),
    "labels": (lambda: cluster_means(ONES, [1, 2]), r"prompts of values has shape \(2,\)"),
    "unpaired": (lambda: paired_differences(ONES, ONES, [1, 1, 2, 2], [1, 1, 1, 1]), "prompts: 2 "),
    "beta": (lambda: soft_value(ONES, 0.0, (0, 1), 0.05), "beta=0.0: must be one positive"),
    "reward": (lambda: soft_value(ONES, 1.0, (0, 0.5), 0.05), "outside reward_bounds"),
    "one axis": (lambda: mean_soft_value(ONES, 1.0, (0, 1), 0.05), "rewards .*at least 2 axes"),
    "gap delta": (
        lambda: optimality_gap(1, 2, GOOD, 1.0, 0.5),
        r"delta \+ regularized_reward.delta",
    ),
    "no tokens": (
        lambda: sequence_totals(np.ones((2, 2)), [[1, 0], [0, 0]]),
        r"mask\[1\] keeps no",
    ),
    "mask shape": (lambda: sequence_totals(np.ones((2, 2)), [1, 0]), "mask has shape"),
    "mask values": (lambda: sequence_totals(np.ones((1, 2)), [[1, 2]]), "mask has other values"),
    "negative": (
        lambda: kl_estimate([[-1.0]], [[0.0]], delta=0.1),
        r"token_kl\[0, 0\]=-1.0: a KL is",
    ),
    "rows": (
        lambda: kl_estimate(np.ones((2, 1)), np.ones((3, 1)), delta=0.1),
        "the same responses",
    ),
    "effect": (lambda: required_samples(0.0, 1.0, 0.05), "effect=0.0: must be positive"),
    "sd": (lambda: detectable_effect(9, -1.0, 0.05), "sd=-1.0"),
    "power": (lambda: detectable_effect(9, 1.0, 0.05, power=1.0), "power=1.0"),
    "relation": (lambda: decide(GOOD, "<="), "relation='<='"),
    "tolerance": (lambda: decide(GOOD, tolerance=-1.0), "tolerance=-1.0"),
    "upside down": (lambda: Interval(1.0, 0.0, 0.5, 0.1, 1, "made up"), "low=1.0, high=0.0"),
    "nan end": (lambda: GOOD + np.nan, "low=nan"),
    "no margins": (lambda: holm([], 0.05), "margins is empty"),
    "relations": (lambda: holm([lambda _: GOOD], 0.05, [">=", ">="]), "relations has 2 entries"),
}


@pytest.mark.parametrize("case", BAD_INPUT)
def test_bad_input_is_named_with_its_remedy(case):
    call, message = BAD_INPUT[case]
    with pytest.raises(ValueError, match=message):
        call()
