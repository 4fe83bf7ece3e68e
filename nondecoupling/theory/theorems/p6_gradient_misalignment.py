"""P6: Gradient misalignment by spectral concentration."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import permutations

import numpy as np

from nondecoupling.formulas.logits import reflect, spectral_cosine_bound, squared_norm
from nondecoupling.numbers.number_system import Array, NumberSystem
from nondecoupling.theory.fields import Law, Logits
from nondecoupling.theory.statement import Claim, Statement
from nondecoupling.theory.worlds import WorldValues


class GradientMisalignment(Statement):
    """Gradient misalignment by spectral concentration.

    Statement: K = Phi Phi^T a kernel of logit features, u, v residuals in logit space, cos_K the
        cosine of Phi^T u and Phi^T v, tau_u the share of u^T K u outside a set of eigenvectors of
        K (for example the top k): |cos_K(u, v)| <= sqrt((1 - tau_u)(1 - tau_v)) |cos_K inside| +
        sqrt(tau_u tau_v). And for fixed v and u ~ N(0, I), E cos_K(u, v)^2 <= lambda_max/tr K;
        the same for every law of u that is symmetric under sign changes and permutations of the
        eigenbasis.

    Assumptions: K is positive semidefinite; u^T K u and v^T K v are positive. Here K = Q Lambda Q
        with a reflection Q, tr K = 1.

    Side: upper bounds.

    Equality when: the parts outside are parallel, with the sign of the inner product inside; mean
        square: K a multiple of the identity.

    Units: none.

    Source: ours; [NBHZ] v2 names spectral concentration (arXiv:2601.07389, known here by its
        abstract).

    Proof idea: split the inner product at an invariant subspace, Cauchy-Schwarz outside it. Mean
        square: g_i = E u_i^2/u^T K u falls in lambda_i by exchange, sum lambda_i g_i = 1, so
        lambda_max g_max <= lambda_max/tr K, and lambda_i g_i rises in lambda_i.

    Example:
    >>> from nondecoupling.bounds import kernel_cosine, spectral_misalignment_bound
    >>> import numpy as np
    >>> kernel, u, v = np.diag([1.0, 0.01]), np.array([0.1, 1.0]), np.array([1.0, -2.0])
    >>> bound = spectral_misalignment_bound(kernel, u, v, 1)
    >>> bool(abs(kernel_cosine(kernel, u, v)) <= bound), round(float(bound), 3)
    (True, 0.832)
    """

    id = "P6"
    title = "Gradient misalignment by spectral concentration"
    world = dict(log_spectrum=Law(), normal=Logits(), u=Logits(), v=Logits(), kept=Logits())

    @staticmethod
    def claims(xp: NumberSystem, w: WorldValues[Array]) -> Iterator[Claim]:
        spectrum = xp.exp(w.log_spectrum)
        kernel_v, kernel_u = (kernel_times(xp, spectrum, w.normal, x) for x in (w.v, w.u))
        norms = xp.sum(w.u * kernel_u) * xp.sum(w.v * kernel_v)
        cosine = xp.abs(xp.sum(w.u * kernel_v)) / xp.sqrt(norms)
        u, v = (reflect(xp, w.normal, x) for x in (w.u, w.v))
        # kept > 0 marks the eigenvectors inside: any set of them, the top k included.
        bound = spectral_cosine_bound(xp, spectrum, u, v, w.kept > 0)
        yield Claim("inside and outside", cosine, "<=", bound)
        mean_square = symmetrised_cosine_squared(xp, spectrum, xp.square(u), xp.square(v))
        yield Claim("random residuals", mean_square, "<=", xp.max(spectrum))

    @staticmethod
    def conditions(xp: NumberSystem, w: WorldValues[Array]) -> Iterator[Claim]:
        zero = xp.full_like(squared_norm(xp, w.normal), 0.0)
        yield Claim("the reflection exists", squared_norm(xp, w.normal), ">", zero)
        for name, x in (("u", w.u), ("v", w.v)):
            size = xp.sum(x * kernel_times(xp, xp.exp(w.log_spectrum), w.normal, x))
            yield Claim(f"K sees {name}", size, ">", zero)


def kernel_times(xp: NumberSystem, spectrum: Array, normal: Array, x: Array) -> Array:
    """K x for K = Q Lambda Q."""
    return reflect(xp, normal, spectrum * reflect(xp, normal, x))


def symmetrised_cosine_squared(xp: NumberSystem, spectrum: Array, uu: Array, vv: Array) -> Array:
    """Mean of cos_K(u, v)^2 over all sign changes and permutations of u, given the squares.

    Signs remove the cross terms: what is left is sum_i (lambda_i v_i^2) (lambda_i u_i^2).
    """
    n = spectrum.shape[-1]
    weights = spectrum * vv / xp.sum(spectrum * vv)
    total = xp.full_like(xp.sum(weights), 0.0)
    orders = list(permutations(range(n)))
    for order in orders:
        seen = spectrum * permuted(xp, uu, order)
        total = total + xp.sum(weights * seen) / xp.sum(seen)
    return total / len(orders)


def permuted(xp: NumberSystem, x: Array, order: tuple[int, ...]) -> Array:
    index = np.broadcast_to(np.array(order), (*x.shape[:-1], len(order)))
    return xp.gather(x, index.copy())
