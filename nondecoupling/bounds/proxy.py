"""Proxy and gold: what training on one reward guarantees for another (G1)."""

from __future__ import annotations

from typing import TYPE_CHECKING, overload

from nondecoupling.bounds.arguments import Arguments
from nondecoupling.bounds.arrays import ArrayLike, FloatArray, Result, TensorLike
from nondecoupling.formulas import proxy

if TYPE_CHECKING:
    from torch import Tensor


@overload
def gold_gain_bound(
    log_p: ArrayLike, log_ref: ArrayLike, reward: ArrayLike, gold: ArrayLike
) -> FloatArray: ...
@overload
def gold_gain_bound(
    log_p: Tensor, log_ref: TensorLike, reward: TensorLike, gold: TensorLike
) -> Tensor: ...
def gold_gain_bound(
    log_p: TensorLike, log_ref: TensorLike, reward: TensorLike, gold: TensorLike
) -> Result:
    """A lower bound on J_g(p) - J_g(ref), the gold gain of a policy trained on the proxy r, from its KL.

    J_r(p) - J_r(ref) - range (x - m): with f = (r - g - min)/range and m = E_ref f, x is the largest number with
    kl(x, m) <= KL(p||ref). Of p it uses the proxy gain and KL(p||ref) only, for any algorithm; attained if
    r - g has two levels and p moves mass from the lower to the upper only. Never below Pinsker's form, the proxy
    gain - range sqrt(KL/2); the proxy gain itself where r - g is constant. In reward units. Range and minimum
    are over supp ref. Assumes p << ref.

    Shapes: log_p, log_ref, reward, gold ``[..., n]`` -> ``[...]``. Source: G1.

    >>> import numpy as np
    >>> from nondecoupling.bounds import gibbs_tilt
    >>> ref = np.log([0.6, 0.2, 0.2])
    >>> proxy, gold = np.array([0.0, 1.0, 1.0]), np.array([0.0, 1.0, 0.0])  # the third answer fools the proxy
    >>> [round(float(gold_gain_bound(gibbs_tilt(ref, proxy, beta), ref, proxy, gold)), 4) for beta in (2.0, 0.5)]
    [0.0183, 0.0246]
    """
    return Arguments(
        laws={"log_p": log_p, "log_ref": log_ref},
        reals={"reward": reward, "gold": gold},
        inside={"log_p": "log_ref"},
    ).map(proxy.gold_gain_bound)
