"""Where a trainer given as a ``Recipe`` moves the policy, and where it ends (T1-T4, T11)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, overload

from nondecoupling.bounds.arguments import Arguments
from nondecoupling.bounds.arrays import ArrayLike, BoolArray, FloatArray, Result, TensorLike
from nondecoupling.bounds.results import StationaryPolicy
from nondecoupling.bounds.trainers import check_tree
from nondecoupling.formulas import groups, recipes, tilt, token_leashes, trainers, verifiable
from nondecoupling.formulas.trees import TokenTree
from nondecoupling.numbers.floats import Floats
from nondecoupling.numbers.number_system import Array, Mask
from nondecoupling.recipes import Recipe

if TYPE_CHECKING:
    from torch import Tensor

NORMALISED = "group-normalised"
NO_LEASH = (
    "no stationary policy: nothing holds the policy, whose reward rises to the highest. On the path of policy gradient "
    "all mass ends on the likeliest best response under ref (T10), on that of natural gradient on ref given the best"
)
NO_MAXIMUM = (
    "no stationary policy is a maximum: with k3 in the reward the objective has no upper bound. The flow from ref may "
    "stop at a local maximum, where at most one response is below its probability under ref, or run away (T2)"
)
UNKNOWN_K2 = "not known: k2 in the reward has a bounded objective that is not concave, without a closed form (T2)"
UNKNOWN_IN_REWARD = (
    "not known: the penalty is part of the reward that is normalised, which so has more than two levels, and T4 "
    "is about two"
)
UNKNOWN_BONUS = (
    "not known: with this leash and these advantages the entropy bonus has no closed form (T11)"
)
UNKNOWN_TREE = "not known: T3 is about advantages that are not normalised, without an entropy bonus"
TOO_MANY_LEVELS = (
    "not known where the reward has more than two levels: advantages normalised in a group then have no objective; "
    "T4 has the condition for large groups; without the division (TRL: scale_rewards='none') the end is known"
)
BELOW_CRITICAL = (
    "no stationary policy where beta is below the critical one (bounds.critical_beta): success tends to one and the "
    "SFT loss grows without bound (T4)"
)


@overload
def stationary_policy(
    log_ref: ArrayLike, reward: ArrayLike, recipe: Recipe, tree: TokenTree | None = ...
) -> StationaryPolicy[FloatArray, BoolArray]: ...
@overload
def stationary_policy(
    log_ref: Tensor, reward: TensorLike, recipe: Recipe, tree: TokenTree | None = ...
) -> StationaryPolicy[Tensor, Tensor]: ...
def stationary_policy(
    log_ref: TensorLike, reward: TensorLike, recipe: Recipe, tree: TokenTree | None = None
) -> StationaryPolicy[Result, BoolArray | Tensor]:
    """Log-probabilities of the policy at which a trainer's expected gradient vanishes, coming from ref.

    Reverse leash (k1 in the reward, k2 in the loss, k3 with the ratio): the tilt of ref. Forward leash (k3 in the
    loss): beta ref/(mu - r). Of a group mean the reward counts (G-1)/G times, of a noisy verifier 1 - f0 - f1
    times; an entropy bonus flattens. Advantages normalised in groups, two levels of reward: ref's laws given the
    level, at the success of ``group_normalized_success``. ``tree``: penalties in the loss act per token on this token
    tree (T3); without it they act per response.

    Returns ``(log_p, stationary, why)``. Where no policy is stationary (no leash, k3 in the reward, below the critical
    beta) or none is known (k2 in the reward, normalised advantages with more levels), log_p is NaN and ``why`` says
    so. A constant reward leaves ref. A response that ref misses is never sampled and stays at zero, whatever its
    reward, so lists that are padded need no mask. What ``recipe.outside`` lists is not accounted for.

    Shapes: log_ref, reward ``[..., n]`` -> ``[..., n]`` and ``[...]``. Errors: noise with more than two levels of
    reward; an entropy bonus or a tree where ref misses a response. Source: T2, T3, T4, T11.

    >>> import numpy as np
    >>> ref, r = np.log([0.5, 0.3, 0.2]), np.array([0.0, 1.0, 1.0])
    >>> found = stationary_policy(ref, r, Recipe("group-normalised", "k3-with-ratio", 1.0, group_size=8))
    >>> np.exp(found.log_p).round(4).tolist()
    [0.0858, 0.5485, 0.3657]
    >>> stationary_policy(ref, r, Recipe("group-normalised", "k3-with-ratio", 1.0)).why
    'no stationary policy where beta is below the critical one...
    """
    if not recipe.leash.endswith(("-in-loss", "-with-ratio")):
        tree = None  # a penalty in the reward is that of the whole response
    arguments = _arguments({"log_ref": log_ref}, reward, recipe, recipe.met_beta, tree)
    unknown = _unknown(recipe, tree)

    def found(xp: Floats, log_ref: Array, reward: Array, beta: Array) -> tuple[Array, Mask]:
        if unknown:
            return _ref_where_constant(xp, log_ref, reward, recipe)
        if recipe.advantage == NORMALISED:
            return _normalised(xp, log_ref, reward, beta, recipe)
        law = _one_objective(xp, log_ref, reward, beta, recipe, tree)
        return law, beta >= 0

    law, there = arguments.map(found, keeps_responses=(True, False))
    if bool(arguments.module.all(there)):
        return StationaryPolicy(law, there, "")
    return StationaryPolicy(law, there, unknown or _of_rows(arguments, there))


def _unknown(recipe: Recipe, tree: TokenTree | None) -> str:
    """Why no row has a stationary policy that is known, unless its reward is constant."""
    normalised, in_reward = recipe.advantage == NORMALISED, recipe.leash.endswith("in-reward")
    if recipe.holds == "nothing":
        if not recipe.entropy_bonus:
            return NO_LEASH
        return UNKNOWN_BONUS if normalised else ""
    if normalised and in_reward:
        return UNKNOWN_IN_REWARD
    if recipe.holds == "no maximum":
        return NO_MAXIMUM
    if recipe.holds == "no closed form":
        return UNKNOWN_K2
    if tree is not None and (normalised or recipe.entropy_bonus):
        return UNKNOWN_TREE
    if recipe.entropy_bonus and (normalised or recipe.holds == "forward"):
        return UNKNOWN_BONUS
    return ""


def _arguments(
    laws: dict[str, TensorLike],
    reward: TensorLike,
    recipe: Recipe,
    beta: float,
    tree: TokenTree | None = None,
) -> Arguments:
    """Checked, with beta beside them."""
    full = tuple(laws) if recipe.entropy_bonus or len(laws) > 1 or tree is not None else ()
    reals, scalars = {"reward": reward}, {"beta": beta}
    arguments = Arguments(
        laws=laws, reals=reals, scalars=scalars, full_support=full, sampled="log_ref"
    )
    if beta:
        arguments.check_product("reward", "beta", inverse=True)
        arguments.check_inverse("beta")
    if tree is not None:
        check_tree(arguments, tree)
    if recipe.told < 1:
        levels = _has_levels(arguments.module, arguments.arrays["reward"])
        arguments.refuse("reward", ~levels, "of two levels at most, where a verifier has errors")
    return arguments


def _one_objective(
    xp: Floats, log_ref: Array, reward: Array, beta: Array, recipe: Recipe, tree: TokenTree | None
) -> Array:
    """T2, T3, T11: where E_p r less the leash, plus the bonus, ends, per unit of reward."""
    if tree is not None:
        estimator: Literal["k2", "k3"] = "k2" if recipe.holds == "reverse" else "k3"
        return token_leashes.per_token_law(xp, log_ref, reward, beta, tree.nodes, estimator)
    if recipe.holds == "forward":
        return trainers.forward_leash_optimum(xp, log_ref, reward, beta)
    if not recipe.entropy_bonus:
        return tilt.gibbs_tilt(xp, log_ref, reward, beta)
    bonus = xp.full_like(beta, recipe.entropy_bonus / (recipe.scale * recipe.told))
    return trainers.entropy_bonus_optimum(xp, log_ref, reward, beta, bonus)


def _has_levels(module: Any, reward: Array) -> Mask:
    """At most two levels, per row."""
    low, high = (f(reward, axis=-1, keepdims=True) for f in (module.min, module.max))
    return module.all((reward == low) | (reward == high), axis=-1, keepdims=True)


def _ref_where_constant(
    xp: Floats, log_ref: Array, reward: Array, recipe: Recipe
) -> tuple[Array, Mask]:
    """ref where nothing pulls, NaN elsewhere."""
    still: Mask = xp.max(reward) == xp.min(reward)
    if recipe.entropy_bonus:
        still = still & ~still
    return xp.where(still, log_ref, float("nan")), still


def _factor(xp: Floats, reward: Array, recipe: Recipe) -> tuple[groups.GroupFactor, Array]:
    """T4: h of rewards of two levels, per unit of success, and which responses are correct."""
    low, gap = xp.min(reward), xp.max(reward) - xp.min(reward)
    eps = recipe.eps / xp.where(gap > 0, gap, 1.0)
    noise = recipe.false_positives, recipe.false_negatives
    factor = groups.GroupFactor(xp, recipe.group_size, recipe.sd, eps, *noise)
    return factor, xp.where(reward > low, 1.0, 0.0 * reward)


def _normalised(
    xp: Floats, log_ref: Array, reward: Array, beta: Array, recipe: Recipe
) -> tuple[Array, Mask]:
    """T4: conditional laws are ref's, the success is that of the first root."""
    factor, correct = _factor(xp, reward, recipe)
    mass = xp.exp(log_ref)
    varied = (xp.sum(mass * correct) > 0) & (xp.sum(mass * (1 - correct)) > 0)
    start = xp.where(varied, verifiable.log_odds(xp, log_ref, correct), 0.0)
    if recipe.holds == "forward":
        end, there = groups.forward_stationary_log_odds(xp, factor, start, beta), beta > 0
    else:
        end, there = groups.first_stationary_log_odds(xp, factor, start, beta)
    up, down = (
        groups.log_sigmoid(xp, sign * end) - groups.log_sigmoid(xp, sign * start)
        for sign in (1, -1)
    )
    law = log_ref + xp.where(varied, xp.where(correct > 0, up, down), 0.0)
    there = _has_levels(xp.module, reward) & (there | ~varied)
    return xp.where(there, law, float("nan")), there


def _of_rows(arguments: Arguments, there: Any) -> str:
    """Of normalised advantages: why some rows have no stationary policy."""
    levels = _has_levels(arguments.module, arguments.arrays["reward"])
    runs_away = levels & ~there.reshape(-1, 1)
    found = {TOO_MANY_LEVELS: ~levels, BELOW_CRITICAL: runs_away}
    return "; ".join(why for why, rows in found.items() if bool(arguments.module.any(rows)))


@overload
def expected_gradient(
    log_p: ArrayLike, log_ref: ArrayLike, reward: ArrayLike, recipe: Recipe
) -> FloatArray: ...
@overload
def expected_gradient(
    log_p: Tensor, log_ref: TensorLike, reward: TensorLike, recipe: Recipe
) -> Tensor: ...
def expected_gradient(
    log_p: TensorLike, log_ref: TensorLike, reward: TensorLike, recipe: Recipe
) -> Result:
    """The gradient that a trainer expects at the policy p, over all groups, in the logits of p: what it ascends.

    p (R - E_p R) with R as in ``Recipe``, per response. For another parametrisation: its Jacobian of log p,
    transposed, times this. Zero at ``stationary_policy``.

    Assumes log_p and log_ref with full support. Shapes: log_p, log_ref, reward ``[..., n]`` -> ``[..., n]``, reward
    units. Errors: normalised advantages, or noise, with more than two levels of reward, or with a penalty in the
    reward that is normalised. Source: T1, T4, T11.

    >>> import numpy as np
    >>> p, ref, r = np.log([0.5, 0.5]), np.log([0.8, 0.2]), np.array([0.0, 1.0])
    >>> expected_gradient(p, ref, r, Recipe("leave-one-out", "k1-in-reward", 0.5)).round(4).tolist()
    [-0.0767, 0.0767]
    """
    laws = {"log_p": log_p, "log_ref": log_ref}
    arguments = _arguments(laws, reward, recipe, recipe.beta)
    if recipe.advantage == NORMALISED:
        levels = _has_levels(arguments.module, arguments.arrays["reward"])
        wanted = "of two levels at most, where advantages are normalised"
        arguments.refuse("reward", ~levels, wanted)
        if recipe.leash.endswith("in-reward"):
            raise ValueError(
                f"recipe: with leash={recipe.leash!r} normalised advantages have more than two levels; choose "
                "another advantage, or a penalty in the loss"
            )

    def gradient(xp: Floats, log_p: Array, log_ref: Array, reward: Array, beta: Array) -> Array:
        pull = beta * recipes.leash_pull(xp, recipe.leash, log_p, log_ref)
        told = recipe.scale * recipe.told * reward
        if recipe.advantage == NORMALISED:
            factor, correct = _factor(xp, reward, recipe)
            varied = xp.max(correct) > xp.min(correct)
            log_odds = xp.where(varied, verifiable.log_odds(xp, log_p, correct), 0.0)
            told = factor(log_odds) * correct
        elif recipe.leash.endswith("in-reward"):
            pull = recipe.scale * pull
        return recipes.ascent(xp, log_p, told, pull, recipe.entropy_bonus)

    return arguments.map(gradient, keeps_responses=True)
