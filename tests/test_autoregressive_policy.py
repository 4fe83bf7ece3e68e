"""Policies on token trees: what is no sequence of theirs, and laws that do not go together."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nondecoupling.policies import AutoregressivePolicy

HALF, SKEWED = np.log([0.5, 0.5]), np.log([0.25, 0.75])
POLICY = AutoregressivePolicy({(): HALF, (1,): SKEWED})
IN_TORCH = AutoregressivePolicy({(): torch.tensor(HALF), (1,): torch.tensor(HALF)})


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: POLICY.log_prob((-1,)), r"sequence\[0\]=-1: a whole number, at least 0"),
        (lambda: POLICY.log_prob((1, -1)), r"sequence\[1\]=-1: a whole number, at least 0"),
        (lambda: POLICY.log_prob((1.0, 0)), r"sequence\[0\]=1\.0: a whole number, at least 0"),
        (lambda: POLICY.log_prob((5,)), r"sequence\[0\]=5: \(\) has 2 tokens; choose one from 0 to 1"),
        (lambda: POLICY.log_prob((0, 0)), r"sequence=\(0, 0\): \(0,\) ends there"),
        (lambda: POLICY.log_prob((1, 1, 0)), r"sequence=\(1, 1, 0\): \(1, 1\) ends there"),
        (
            lambda: AutoregressivePolicy({(): HALF, (1,): torch.tensor(HALF)}),
            r"token_log_p\[\(1,\)\]: torch float64 on cpu, but token_log_p\[\(\)\] is numpy float64",
        ),
        (
            lambda: AutoregressivePolicy({(): HALF, (1,): HALF.astype(np.float32)}),
            r"token_log_p\[\(1,\)\]: numpy float32 on cpu, but",
        ),
        (lambda: IN_TORCH.kl_divergence(POLICY), r"other: its laws are numpy float64 on cpu, those of"),
        (lambda: POLICY.kl_divergence(IN_TORCH), r"other: its laws are torch float64 on cpu, those of"),
    ],
)  # fmt: skip
def test_errors_name_the_argument_the_value_and_the_remedy(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_sequences_may_be_of_any_integers():
    for sequence in ((1, 0), [1, 0], np.array([1, 0]), torch.tensor([1, 0])):
        assert np.exp(POLICY.log_prob(sequence)) == pytest.approx(0.125)
    assert POLICY.log_prob(()) == 0


@pytest.mark.parametrize("first", [torch.tensor(HALF), HALF.astype(np.float32)])
def test_lists_take_the_kind_of_the_other_laws(first):
    policy = AutoregressivePolicy({(): first, (0,): HALF.tolist()})
    found = policy.log_prob((0, 1))
    assert found.dtype == first.dtype and float(found) == pytest.approx(2 * np.log(0.5))
