"""Softmax logits and kernels of features: gradients (F5) and the landscape (P1-P4, P6)."""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, Any, overload

from nondecoupling.bounds.arguments import Arguments, laws_only, tilted
from nondecoupling.bounds.arrays import ArrayLike, FloatArray, Result, TensorLike
from nondecoupling.bounds.checks import about_values
from nondecoupling.bounds.reading import whole_number
from nondecoupling.bounds.results import Range, StepChange
from nondecoupling.formulas import logits
from nondecoupling.formulas.laws import expectation, from_mode
from nondecoupling.formulas.roots import with_envelope_gradient
from nondecoupling.numbers.floats import Floats, detached, device_of
from nondecoupling.numbers.number_system import Array

if TYPE_CHECKING:
    from torch import Tensor


@overload
def sft_loss_gradient(log_p: ArrayLike, log_d: ArrayLike) -> FloatArray: ...
@overload
def sft_loss_gradient(log_p: Tensor, log_d: TensorLike) -> Tensor: ...
def sft_loss_gradient(log_p: TensorLike, log_d: TensorLike) -> Result:
    """The gradient p - d of the SFT loss CE(d, softmax(theta)) in the logits, nats per unit of logit.

    Shapes: log_p, log_d ``[..., n]`` -> ``[..., n]``. Source: F5.

    >>> import numpy as np
    >>> sft_loss_gradient(np.log([0.25, 0.75]), np.log([0.5, 0.5])).round(12).tolist()
    [-0.25, 0.25]
    """
    return laws_only(log_p=log_p, log_d=log_d).map(logits.sft_loss_gradient, keeps_responses=True)


@overload
def reward_gradient(log_p: ArrayLike, reward: ArrayLike) -> FloatArray: ...
@overload
def reward_gradient(log_p: Tensor, reward: TensorLike) -> Tensor: ...
def reward_gradient(log_p: TensorLike, reward: TensorLike) -> Result:
    """The gradient p (r - E_p r) of J(softmax(theta)) in the logits, reward units per unit of logit.

    Shapes: log_p, reward ``[..., n]`` -> ``[..., n]``. Source: F5, Mei et al. 2020.

    >>> import numpy as np
    >>> reward_gradient(np.log([0.25, 0.75]), np.array([0.0, 1.0])).round(12).tolist()
    [-0.1875, 0.1875]
    """
    arguments = Arguments(laws={"log_p": log_p}, reals={"reward": reward})
    return arguments.map(logits.reward_gradient, keeps_responses=True)


@overload
def pl_sft_bound(log_d: ArrayLike, log_p: ArrayLike) -> FloatArray: ...
@overload
def pl_sft_bound(log_d: Tensor, log_p: TensorLike) -> Tensor: ...
def pl_sft_bound(log_d: TensorLike, log_p: TensorLike) -> Result:
    """log(1 + ||p - d||^2/min p) >= KL(d||p): the excess SFT loss, from its gradient in the logits.

    In nats. Assumes p = softmax(theta), so full support. Sharper than the PL form ||p - d||^2/min p.
    Vacuous for a language model, where min p is tiny.

    Shapes: log_d, log_p ``[..., n]`` -> ``[...]``. Source: P1.

    >>> import numpy as np
    >>> float(pl_sft_bound(np.log([0.5, 0.5]), np.log([0.4, 0.6])))
    0.0487...
    """
    return laws_only(log_d=log_d, log_p=log_p).map(logits.pl_sft_bound)


@overload
def logit_sandwich(theta: ArrayLike, theta_prime: ArrayLike) -> Range[FloatArray]: ...
@overload
def logit_sandwich(theta: Tensor, theta_prime: TensorLike) -> Range[Tensor]: ...
def logit_sandwich(theta: TensorLike, theta_prime: TensorLike) -> Range[Result]:
    """Lower and upper bound (m/2) D and D/4 on KL(softmax theta||softmax theta'), in nats.

    D = ||(theta - theta')_c||^2, centred over the responses; m the least probability of either law.

    Shapes: theta, theta_prime ``[..., n]`` -> two of ``[...]``. Source: P2.

    >>> import numpy as np
    >>> lower, upper = logit_sandwich(np.array([0.0, 0.0]), np.array([0.5, -0.5]))
    >>> round(float(lower), 4), float(upper)
    (0.0672, 0.125)
    """
    arguments = Arguments(laws={}, reals={"theta": theta, "theta_prime": theta_prime})
    return Range(*arguments.map(logits.logit_sandwich))


@overload
def pl_reward_bound(
    log_p: ArrayLike, log_ref: ArrayLike, reward: ArrayLike, beta: ArrayLike
) -> FloatArray: ...
@overload
def pl_reward_bound(
    log_p: Tensor, log_ref: TensorLike, reward: TensorLike, beta: TensorLike
) -> Tensor: ...
def pl_reward_bound(
    log_p: TensorLike, log_ref: TensorLike, reward: TensorLike, beta: TensorLike
) -> Result:
    """||grad J_b||^2/(4 beta (min p)^2) >= J_b(tilt) - J_b(p), the gradient taken in the logits.

    In reward units, rounded up: it stays above the drop in floats too. Assumes that p and ref have full
    support. Errors: a least probability below the smallest normal number.

    Shapes: log_p, log_ref, reward ``[..., n]``, beta scalar or ``[...]`` -> ``[...]``. Source: P3.

    >>> import numpy as np
    >>> p, ref = np.log([0.4, 0.6]), np.log([0.5, 0.5])
    >>> float(pl_reward_bound(p, ref, np.array([0.0, 1.0]), 1.0))
    0.0636...
    """
    laws = {"log_p": log_p, "log_ref": log_ref}
    arguments = tilted(laws, reward, beta, full_support=("log_p", "log_ref"))
    arguments.check_square("beta")
    for law in laws:
        arguments.check_product(law, "beta")
    arguments.check_least("log_p", "the bound divides by the square of the least probability")

    def rounded_up(xp: Floats, log_p: Array, log_ref: Array, reward: Array, beta: Array) -> Array:
        advantage = logits.regularized_advantage(xp, log_p, log_ref, reward, beta)
        # It is a - E_p a: roundings of half an eps, three in a number of this size, n + 3 in the mean.
        sizes = xp.abs(from_mode(xp, log_p, reward)) + beta * (2 - log_p - log_ref)
        in_mean = (log_p.shape[-1] + 3) * expectation(xp, log_p, sizes)
        error = 0.5 * xp.eps(log_p) * (3 * sizes + in_mean)
        return logits.pl_bound_of_advantage(xp, log_p, xp.abs(advantage) + error, beta)

    return arguments.map(rounded_up)


@overload
def rl_improves_sft_threshold(
    log_d: ArrayLike, log_p: ArrayLike, direction: ArrayLike, step: ArrayLike
) -> StepChange[FloatArray]: ...
@overload
def rl_improves_sft_threshold(
    log_d: Tensor, log_p: TensorLike, direction: TensorLike, step: TensorLike
) -> StepChange[Tensor]: ...
def rl_improves_sft_threshold(
    log_d: TensorLike, log_p: TensorLike, direction: TensorLike, step: TensorLike
) -> StepChange[Result]:
    """Whether a step of size ``step`` along ``direction`` in logit space lowers the SFT loss.

    Returns (change, raises_below, lowers_above) in nats: the exact change of CE(d, p); the excess
    loss KL(d||p) below which the step raises it for certain, and the one above which it lowers it for
    certain (inf if the step does not point to the data). With direction = reward and step = 1/beta
    the step is RL to the tilt of p. Assumes full support of p, step > 0; where d misses a response
    raises_below is 0 and says nothing.

    Shapes: log_d, log_p, direction ``[..., n]``, step scalar or ``[...]`` -> three of ``[...]``.
    Source: P4.

    >>> import numpy as np
    >>> from nondecoupling.bounds import kl_divergence
    >>> d, p, r = np.log([0.1, 0.9]), np.log([0.5, 0.5]), np.array([0.0, 1.0])
    >>> change, raises_below, lowers_above = rl_improves_sft_threshold(d, p, r, 0.5)
    >>> round(float(change), 3), float(kl_divergence(d, p)) > float(lowers_above)
    (-0.169, True)
    """
    arguments = Arguments(
        laws={"log_d": log_d, "log_p": log_p},
        reals={"direction": direction},
        scalars={"step": step},
        positive=("step",),
        full_support=("log_p",),
    )
    arguments.check_product("direction", "step")
    arguments.check_square("step")
    return StepChange(*arguments.map(logits.rl_improves_sft_threshold))


@overload
def kernel_cosine(kernel: ArrayLike, u: ArrayLike, v: ArrayLike) -> FloatArray: ...
@overload
def kernel_cosine(kernel: Tensor, u: TensorLike, v: TensorLike) -> Tensor: ...
def kernel_cosine(kernel: TensorLike, u: TensorLike, v: TensorLike) -> Result:
    """cos_K(u, v) = u^T K v/sqrt(u^T K u v^T K v); 0 where a norm vanishes.

    For K = Phi Phi^T it is the cosine of the parameter gradients Phi^T u and Phi^T v. ``ValueError``
    if K is not symmetric positive semidefinite.

    Shapes: kernel ``[..., n, n]``, u, v ``[..., n]`` -> ``[...]``. Source: P6.

    >>> import numpy as np
    >>> float(kernel_cosine(np.diag([1.0, 0.0]), np.array([1.0, 5.0]), np.array([-2.0, 0.0])))
    -1.0
    """

    turned = _in_eigenbasis(kernel, u, v)
    everything = turned.top(turned.n)
    uv, uu, vv = turned.products(everything)
    return turned.with_gradient(
        turned.arguments.map(logits.spectral_cosine),
        logits.cosine_of_products(turned.xp, uv, uu, vv),
    )


@overload
def spectral_misalignment_bound(
    kernel: ArrayLike, u: ArrayLike, v: ArrayLike, k: int
) -> FloatArray: ...
@overload
def spectral_misalignment_bound(kernel: Tensor, u: TensorLike, v: TensorLike, k: int) -> Tensor: ...
def spectral_misalignment_bound(kernel: TensorLike, u: TensorLike, v: TensorLike, k: int) -> Result:
    """Upper bound on |cos_K(u, v)| from the top k eigenvectors of K and what lies outside them.

    sqrt((1 - tau_u)(1 - tau_v)) |cos_K in the top k| + sqrt(tau_u tau_v), tau_u the share of u^T K u
    outside. ``ValueError`` if K is not symmetric positive semidefinite, or k is not a whole number in 0..n. Where
    the eigenvalues k and k + 1 agree, the top k eigenvectors are not unique, and gradients take them as held.

    Shapes: kernel ``[..., n, n]``, u, v ``[..., n]`` -> ``[...]``. Source: P6.

    >>> import numpy as np
    >>> kernel, u, v = np.diag([1.0, 0.01]), np.array([0.1, 1.0]), np.array([1.0, -2.0])
    >>> round(float(spectral_misalignment_bound(kernel, u, v, 1)), 3)
    0.832
    """
    turned = _in_eigenbasis(kernel, u, v)
    xp, n = turned.xp, turned.n
    k = whole_number("k", k, 0, otherwise=f" and at most the number of responses, {n}")
    if k > n:
        raise ValueError(f"k={k}: more than the number of responses, {n}")
    inside = turned.top(k)

    def bound(xp: Floats, spectrum: Array, u: Array, v: Array) -> Array:
        return logits.spectral_cosine_bound(xp, spectrum, u, v, inside)

    _, uu, vv = turned.products(turned.top(n))
    within, _, _ = turned.products(inside)
    _, u_outside, v_outside = turned.products(~inside)
    tails = u_outside * v_outside
    some = tails > 0  # the slope of a square root at 0 is infinite
    outside = xp.where(some, xp.sqrt(xp.where(some, tails, 1.0)), 0.0)
    smooth = logits.cosine_of_products(xp, xp.abs(within) + outside, uu, vv)
    return turned.with_gradient(turned.arguments.map(bound), smooth)


@dataclass(frozen=True)
class _Turned:
    """Two vectors and a kernel in the eigenbasis of the kernel, which is held: it has no derivative where
    eigenvalues are repeated. ``arguments`` have the roots of the eigenvalues in the vectors, and no gradients.
    """

    arguments: Arguments
    spectrum: Any
    kernel: Any
    u: Any
    v: Any

    @property
    def xp(self) -> Floats:
        return Floats(self.arguments.module)

    @property
    def n(self) -> int:
        return int(self.spectrum.shape[-1])

    def top(self, k: int) -> Any:
        """The k largest eigenvalues, which come in ascending order."""
        return self.xp.module.arange(self.n, device=device_of(self.spectrum)) >= self.n - k

    def products(self, part: Any) -> tuple[Any, Any, Any]:
        """<u, v>, <u, u> and <v, v> of the kernel's part on these eigenvectors, to first order in the kernel.

        An entry of the kernel between two eigenvectors of which one belongs to the part turns it: the part gets
        own/(own - other) of the entry, by the two eigenvalues.
        """
        xp = self.xp
        mine, others = part[:, None], ~part[None, :]
        own, other = self.spectrum[..., :, None], self.spectrum[..., None, :]
        apart = mine & others & (own != other)
        turns = xp.where(apart, own / xp.where(apart, own - other, 1.0), 0.0)
        share = xp.where(mine & ~others, 1.0, turns + xp.module.matrix_transpose(turns))
        kernel = share * self.kernel

        def product(x: Any, y: Any) -> Any:
            return xp.sum(x * xp.module.matmul(kernel, y[..., None])[..., 0])

        return product(self.u, self.v), product(self.u, self.u), product(self.v, self.v)

    def with_gradient(self, value: Any, smooth: Any) -> Any:
        return with_envelope_gradient(value, smooth[..., 0])


def _in_eigenbasis(kernel: TensorLike, u: TensorLike, v: TensorLike) -> _Turned:
    """The kernel and the two vectors in its eigenbasis."""
    vectors = Arguments(laws={}, reals={"u": u, "v": v}, any_size=("u", "v"))
    module, dtype, n = vectors.module, vectors.dtype, vectors.arrays["u"].shape[-1]
    matrix = vectors.like("kernel", kernel)
    if matrix.ndim < 2 or tuple(matrix.shape[-2:]) != (n, n):
        raise ValueError(f"kernel {tuple(matrix.shape)}: the last two axes must be ({n}, {n})")
    _check_finite(module, matrix)
    # The cosine does not see the sizes of kernel and vectors: without them nothing over- or underflows.
    matrix = _without_size(module, matrix, (-2, -1))
    tolerance = n * float(module.finfo(dtype).eps) ** 0.5
    _check_symmetric(module, matrix, tolerance)
    spectrum, basis = module.linalg.eigh(detached(matrix))
    _check_positive(module, spectrum, tolerance)
    positive = spectrum > 0
    ones = module.ones_like(spectrum)
    root = module.where(positive, module.sqrt(module.where(positive, spectrum, ones)), 0 * ones)
    turned = []
    for x in (vectors.arrays["u"], vectors.arrays["v"]):
        unit = _without_size(module, module.reshape(x, (*vectors.batch, 1, n)), (-1,))
        turned.append(module.matmul(unit, basis)[..., 0, :])
    scaled = [_without_size(module, root * detached(x), (-1,)) for x in turned]
    arguments = vectors.replace_arrays(
        spectrum=module.ones_like(scaled[0]), u=scaled[0], v=scaled[1]
    )
    in_basis = module.matmul(module.matmul(module.matrix_transpose(basis), matrix), basis)
    return _Turned(arguments, spectrum, in_basis, *turned)


@about_values
def _check_finite(module: ModuleType, matrix: Any) -> None:
    if not bool(module.all(module.isfinite(matrix))):
        raise ValueError("kernel: must consist of finite numbers")


@about_values
def _check_symmetric(module: ModuleType, matrix: Any, tolerance: float) -> None:
    if bool(module.any(module.abs(matrix - module.matrix_transpose(matrix)) > tolerance)):
        raise ValueError("kernel: not symmetric; give Phi Phi^T")


@about_values
def _check_positive(module: ModuleType, spectrum: Any, tolerance: float) -> None:
    if bool(module.any(spectrum < -tolerance)):
        least = float(module.min(spectrum))
        raise ValueError(f"kernel: eigenvalue {least:.3g} of the largest entry is negative")


def _without_size(module: ModuleType, x: Any, axes: tuple[int, ...]) -> Any:
    """x divided by its largest entry along the axes; zeros stay."""
    size = detached(module.max(module.abs(x), axis=axes, keepdims=True))
    return x / module.where(size > 0, size, module.ones_like(size))
