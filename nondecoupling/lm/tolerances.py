"""How far an enumerated law may lie from mass one, from another evaluation, and from the same head in float64."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nondecoupling.kernels.head import Head

__all__ = [
    "enumeration_tolerance",
    "largest_log_prob",
    "log_sum_tolerance",
    "mass_error",
    "mass_tolerance",
    "precision_tolerance",
    "sums_tolerance",
]

EPS = float(np.finfo(np.float64).eps)
EPS32 = float(np.finfo(np.float32).eps)
# Chosen, not derived: how errors grow through a network is not known. A wrong mask, position or head is off by
# orders of magnitude more, which tests show.
LAW_TOLERANCE_UNITS = 64
# Of a logit beside its sum: the bias, the scale, and a cap's tanh of a few ulps.
ROUNDINGS = 8
# A chain of n roundings of unit u is off by n u at most, and by more than this times sqrt(n) u with a probability
# below 2 exp(-32) if they are independent with mean 0 (Higham and Mary, 2019).
DEVIATIONS = 8.0


def largest_log_prob(log_law: NDArray[np.float64]) -> float:
    """max |log p| over the responses with any mass."""
    finite = log_law[np.isfinite(log_law)]
    return float(np.abs(finite).max()) if finite.size else 0.0


def mass_error(log_law: NDArray[np.float64]) -> float:
    """max over prompts of |sum p - 1|."""
    return float(np.abs(np.exp(log_law).sum(axis=-1) - 1).max())


def mass_tolerance(log_law: NDArray[np.float64], sums: float = 0.0) -> float:
    """Allowance for |sum p - 1|: each log p is a sum of rounded terms of its own size.

    A head in less than float64 adds ``sums``, which ``sums_tolerance`` gives.
    """
    return LAW_TOLERANCE_UNITS * EPS * (1 + largest_log_prob(log_law)) + sums


def enumeration_tolerance(log_law: NDArray[np.float64], layers: int, eps: float) -> float:
    """Allowance between two evaluations of one network in a precision of ``eps``.

    Here alone the network's own rounding counts: a batch is summed in another order than a single sequence. Each
    layer adds errors of a few eps to hidden states, and a log-probability magnifies them by about its own size.
    """
    return LAW_TOLERANCE_UNITS * eps * (1 + layers) * (1 + largest_log_prob(log_law))


def _accumulated(roundings: float) -> float:
    """How many units a chain of roundings may be off by: all of them, rigorously, or ``DEVIATIONS`` sqrt(n)."""
    return min(roundings, DEVIATIONS * math.sqrt(roundings))


def log_sum_tolerance(vocabulary: int) -> float:
    """How far a log sum_j e^(z_j - m) over V float32 logits, with m the largest, may be off, in nats.

    With u = eps32 / 2, relative errors of the kernels' positive terms e^(z - m), which are those of their sum:
        3 u |z - m|     the difference, its scale and the scale's own rounding; weighted by p, sum_j p_j |z_j - m| is
                        the entropy less log sum e^(z - m), so at most log V; running maxima raise it in parts
        4 u             an exponential of 2 ulps
        A u             additions: at most 128 columns at once, then 64 or more at a time onto a running sum, which a
                        new maximum scales by one more exponential
    so A <= min(V, 128) + 6 V / 64 roundings in a chain, off by A u at most, by 8 sqrt(A) u with certainty enough.
    """
    chain = min(vocabulary, 128) + 6 * math.ceil(vocabulary / 64)
    return EPS32 / 2 * (3 * math.log(vocabulary) + 4 + _accumulated(chain))


def sums_tolerance(vocabulary: int, longest: int) -> float:
    """Allowance for |sum p - 1| where the head is applied in less than float64; ``longest`` response in tokens.

    All statistics of a node are of one set of logits, so what rounded these does not enter. With s and rest the sums
    of e^(z - m) over all tokens and over those that no candidate takes, a node's branches and leave add up to
    (sum over branches of e^(z - m) + rest) / s, in float64. s and rest are float32 sums, each off by a factor
    e^(+-delta), ``log_sum_tolerance``. So the node has mass e^(+-2 delta), and a law whose responses pass at most L
    nodes e^(+-2 L delta).

    A node has a row of hidden states per branch. The Triton kernels sum every row in one order, so these rows have
    the same logits bit by bit; MKL's float32 products have been seen to do the same.
    """
    return math.expm1(2 * longest * log_sum_tolerance(vocabulary))


def precision_tolerance(head: Head, precision: torch.dtype, longest: int) -> float:
    """Allowance in nats between log-probabilities of a head applied in ``precision`` and in float64.

    ``head`` is as the model holds it, ``longest`` the tokens of a response. With h', w', b' what rounding leaves of
    hidden states h, weights w of width D and biases b, a product h w + b moves by at most (Cauchy-Schwarz)

        |h - h'| max |w| + |h'| max |w - w'| + max |b - b'|     by rounding; nothing where ``precision`` holds them
        (D + 8) eps32 (|h'| max |w'| + max |b'|)                by a float32 sum of D products, in any order, and what
                                                                follows; eps32 for eps32 / 2, since tensor cores cut

    where 8 sqrt(D), which is certain enough, stands for D above 64. A cap moves logits no further, the temperature
    divides. A log-probability z - log s moves by twice the farthest logit and delta, ``log_sum_tolerance``, the
    log-probability of a leave by 2 delta; a response by that at each of its tokens, and `other`, a sum of such, too.
    """
    moved, size = 0.0, 0.0
    hidden, weight, bias = (None if part is None else part.detach() for part in head[:3])
    assert hidden is not None and weight is not None
    moved += _lost(hidden, precision) * _largest(weight)
    moved += _largest(hidden.to(precision)) * _lost(weight, precision)
    size += _largest(hidden.to(precision)) * _largest(weight.to(precision))
    if bias is not None:
        moved += _lost(bias[:, None], precision)
        size += _largest(bias[:, None].to(precision))
    moved += (_accumulated(head.width) + ROUNDINGS) * EPS32 * size
    return 2 * longest * (moved / head.temperature + log_sum_tolerance(head.vocabulary))


def _largest(rows: Tensor) -> float:
    """The largest norm of a row."""
    return float(rows.double().norm(dim=1).max())


def _lost(rows: Tensor, precision: torch.dtype) -> float:
    """The largest norm of what rounding to ``precision`` takes off a row."""
    return float((rows.double() - rows.to(precision).double()).norm(dim=1).max())
