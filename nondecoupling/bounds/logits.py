"""Softmax logits and kernels of features: gradients (F5) and the landscape (P1-P4, P6)."""

from __future__ import annotations

from types import ModuleType
from typing import TYPE_CHECKING, Any, overload

from nondecoupling.bounds.arguments import Arguments, laws_only, tilted
from nondecoupling.bounds.arrays import ArrayLike, FloatArray, Result, TensorLike
from nondecoupling.bounds.checks import about_values
from nondecoupling.bounds.results import Range, StepChange
from nondecoupling.formulas import logits
from nondecoupling.formulas.laws import expectation, from_mode
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

    def cosine(xp: Floats, spectrum: Array, u: Array, v: Array) -> Array:
        return logits.spectral_cosine(xp, spectrum, u, v)

    return _in_eigenbasis(kernel, u, v).map(cosine)


@overload
def spectral_misalignment_bound(
    kernel: ArrayLike, u: ArrayLike, v: ArrayLike, k: int
) -> FloatArray: ...
@overload
def spectral_misalignment_bound(kernel: Tensor, u: TensorLike, v: TensorLike, k: int) -> Tensor: ...
def spectral_misalignment_bound(kernel: TensorLike, u: TensorLike, v: TensorLike, k: int) -> Result:
    """Upper bound on |cos_K(u, v)| from the top k eigenvectors of K and what lies outside them.

    sqrt((1 - tau_u)(1 - tau_v)) |cos_K in the top k| + sqrt(tau_u tau_v), tau_u the share of u^T K u
    outside. ``ValueError`` if K is not symmetric positive semidefinite, or k is not in 0..n.

    Shapes: kernel ``[..., n, n]``, u, v ``[..., n]`` -> ``[...]``. Source: P6.

    >>> import numpy as np
    >>> kernel, u, v = np.diag([1.0, 0.01]), np.array([0.1, 1.0]), np.array([1.0, -2.0])
    >>> round(float(spectral_misalignment_bound(kernel, u, v, 1)), 3)
    0.832
    """
    arguments = _in_eigenbasis(kernel, u, v)
    n = arguments.arrays["u"].shape[-1]
    if not 0 <= k <= n:
        raise ValueError(f"k={k}: must be between 0 and the number of responses, {n}")

    def bound(xp: Floats, spectrum: Array, u: Array, v: Array) -> Array:
        # Eigenvalues come in ascending order.
        inside = xp.module.arange(n, device=device_of(u)) >= n - k
        return logits.spectral_cosine_bound(xp, spectrum, u, v, inside)

    return arguments.map(bound)


def _in_eigenbasis(kernel: TensorLike, u: TensorLike, v: TensorLike) -> Arguments:
    """The spectrum of the kernel and the two vectors in its eigenbasis."""
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
    spectrum, basis = module.linalg.eigh(matrix)
    _check_positive(module, spectrum, tolerance)
    positive = spectrum > 0
    ones = module.ones_like(spectrum)
    root = module.where(positive, module.sqrt(module.where(positive, spectrum, ones)), 0 * ones)
    turned = []
    for x in (vectors.arrays["u"], vectors.arrays["v"]):
        unit = _without_size(module, module.reshape(x, (*vectors.batch, 1, n)), (-1,))
        turned.append(_without_size(module, root * module.matmul(unit, basis)[..., 0, :], (-1,)))
    u_turned, v_turned = turned
    # The roots of the eigenvalues are in the vectors.
    return vectors.replace_arrays(spectrum=module.ones_like(u_turned), u=u_turned, v=v_turned)


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
