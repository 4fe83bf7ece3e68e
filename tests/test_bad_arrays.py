"""Whatever would silently lose something is refused by the name of its argument; empty batches are fine."""

from __future__ import annotations

import re
from fractions import Fraction

import numpy as np
import pytest
import torch

from nondecoupling import bounds
from nondecoupling.formulas.trees import TokenTree
from nondecoupling.recipes import Recipe
from tests.public_functions import PUBLIC

EVEN, REWARD = np.log([0.5, 0.5]), np.array([0.0, 1.0])
TENSORS = torch.tensor(EVEN), torch.tensor(REWARD)

BAD = {
    "complex": (np.array([0.0, 1j]), "complex128"),
    "complex list": ([0.0, 1j], "complex128"),
    "complex tensor": (torch.tensor([0.0, 1j]), r"complex64.*\.real"),
    "masked": (
        np.ma.masked_array([0.0, 1.0], mask=[False, True]),
        "masked array.*mask would be lost",
    ),
    "datetime": (np.array(["2026-01-01", "2026-01-02"], dtype="M8[D]"), "datetime64"),
    "timedelta": (np.array([1, 2], dtype="m8[s]"), "timedelta64"),
    "structured": (np.zeros(2, dtype=[("a", "f8")]), "give real numbers"),
    "strings": (["0", "1"], "give real numbers"),
    "bytes": (np.array([b"0", b"1"]), "give real numbers"),
    "booleans": ([True, False], "array of bool"),
    "objects": ([None, 1.0], "not a real array"),
    "sparse": (torch.tensor([0.0, 1.0]).to_sparse(), r"sparse.*to_dense"),
    "meta": (torch.zeros(2, device="meta"), "meta"),
    "a huge integer": ([0, 10**400], "not a real array"),
    "longdouble": (np.array([0.0, 1.0], dtype=np.longdouble), "convert to float32 or float64"),
    "float16": (np.array([0.0, 1.0], dtype=np.float16), "convert to float32 or float64"),
    "bfloat16": (torch.tensor([0.0, 1.0], dtype=torch.bfloat16), "convert to float32 or float64"),
    "ragged": ([[0.0, 1.0], [0.0]], "not a real array"),
    "None": (None, "not a real array"),
    "a dictionary": ({"a": 1.0}, "not a real array"),
}


@pytest.mark.parametrize("kind", BAD)
@pytest.mark.parametrize("place", ["log_d", "reward", "beta"])
def test_each_kind_is_refused_by_name_in_each_place(place, kind):
    value, message = BAD[kind]
    arguments = {"log_d": EVEN, "reward": REWARD, "beta": 1.0, place: value}
    with pytest.raises(ValueError, match=f"{place}.*({message})"):
        bounds.coupling_gap(**arguments)


class JaxArray:
    """What NumPy, and so np.asarray, sees of an array of JAX."""

    __module__ = "jaxlib._jax"
    dtype = np.dtype("float32")
    shape = (2,)
    ndim = 1

    def __array__(self, dtype=None, copy=None):
        return np.array([-0.7, -0.7], dtype=dtype)


class Wrapped:
    """What JAX takes for an array: by a method of this name."""

    def __jax_array__(self):
        raise AssertionError("never called")

    __array__ = JaxArray.__array__


@pytest.mark.parametrize("given", [JaxArray(), Wrapped(), [JaxArray(), JaxArray()], [[Wrapped()]]])
@pytest.mark.parametrize("place", ["log_d", "reward", "beta", "mask"])
def test_arrays_of_jax_are_refused_with_the_remedy(place, given):
    assert np.asarray(JaxArray()).tolist() == [-0.7, -0.7]  # what would silently have become of one
    arguments = {"log_d": EVEN, "reward": REWARD, "target": 0.7, place: given}
    arguments["target"] = arguments.pop("beta", arguments["target"])
    name = "target" if place == "beta" else place
    with pytest.raises(ValueError, match=rf"{name}: an array of JAX.*np\.asarray.*from_dlpack"):
        bounds.price_of_reward(**arguments)


def test_tensors_in_a_list_are_refused():
    with pytest.raises(ValueError, match=r"log_p: tensors in a list.*torch\.stack"):
        bounds.entropy([TENSORS[0], TENSORS[0]])


def test_numbers_of_other_exact_kinds_are_read():
    want = float(bounds.coupling_gap(EVEN, REWARD, 0.5))
    for reward in ([Fraction(0), Fraction(1)], np.array([0, 1], dtype=np.uint8), (0, 1)):
        assert float(bounds.coupling_gap(EVEN, reward, Fraction(1, 2))) == want


def test_arrays_of_other_libraries_are_refused_by_their_library():
    class Array:
        """What another library of the array API looks like."""

        def __array_namespace__(self, api_version=None):
            return np

    with pytest.raises(ValueError, match=r"reward: an array of .*test_bad_arrays.*np\.asarray"):
        bounds.expected_reward(EVEN, Array())


@pytest.mark.parametrize("name", ["beta", "target"])
@pytest.mark.parametrize("shape", [(2, 1), (1, 2), (1,), (1, 1, 1)])
def test_a_number_of_the_world_has_the_axes_of_the_batch(name, shape):
    function = bounds.coupling_gap if name == "beta" else bounds.price_of_reward
    laws, rewards = np.stack([EVEN] * 2), np.stack([REWARD] * 2)
    number = np.full(shape, 0.7)
    # Without a batch there is nothing to confuse a grid with.
    assert function(EVEN, REWARD, number).shape == shape
    if len(shape) == 1:
        assert function(laws, rewards, number).shape == (2,)
        return
    with pytest.raises(ValueError, match=rf"{name} {re.escape(str(shape))}.*log_d\[None\]"):
        function(laws, rewards, number)


def test_a_grid_of_betas_over_a_batch_by_a_leading_axis():
    laws, rewards = np.log([[0.5, 0.5], [0.1, 0.9]]), np.array([[0.0, 1.0], [0.0, 2.0]])
    betas = np.array([0.5, 1.0, 2.0])
    grid = bounds.coupling_gap(laws[None], rewards[None], betas[:, None])
    assert grid.shape == (3, 2)
    for k, beta in enumerate(betas):
        np.testing.assert_array_equal(grid[k], bounds.coupling_gap(laws, rewards, beta))


def test_prompts_that_do_not_agree_are_named_by_the_users_arguments():
    three = np.log([1 / 3] * 3)
    for call in (
        lambda: bounds.decoupled(three, three, np.stack([EVEN] * 2), np.stack([REWARD] * 2)),
        lambda: bounds.shared_prompt_loss_increase(three, three, EVEN, REWARD, 1.0),
    ):
        with pytest.raises(ValueError, match=r"log_d and reward.*3 prompts of log_sft"):
            call()


def test_a_tensor_elsewhere_is_named_with_both_places():
    class Elsewhere(torch.Tensor):
        """A tensor that says it is on another device: there is only one here."""

        @property
        def device(self):
            return torch.device("cuda", 0)

    reward = TENSORS[1].as_subclass(Elsewhere)
    with pytest.raises(
        ValueError, match=r"reward is on cuda:0, another argument on cpu: .*\.to\(\)"
    ):
        bounds.expected_reward(TENSORS[0], reward)


EMPTY = {
    "log_p": (0, 2), "log_q": (0, 2), "log_d": (0, 2), "log_ref": (0, 2), "log_tilt": (0, 2),
    "reward": (0, 2), "direction": (0, 2), "theta": (0, 2), "theta_prime": (0, 2),
    "u": (0, 2), "v": (0, 2), "kernel": (0, 2, 2), "log_sft": (0, 2), "log_rl": (0, 2),
    "beta": (0,), "target": (0,), "eps": (0,), "rate": (0,), "offset": (0,), "z": (0,), "weight": (0,),
    "kl": (0,), "step": (0,), "gold": (0, 2), "bonus": (0,), "power": (0,), "rl_time": (0,),
    "sft_share": (0,), "tau": (0,), "n": (0,), "reward_gain": (0,), "ref_success": (0,), "success": (0,),
    "share": (0,), "false_positives": (0,), "false_negatives": (0,), "excess": (0,),
}  # fmt: skip
# They average over prompts, of which there must be some.
AVERAGES = {"price_of_average_reward", "frontier_rate", "pareto_frontier"}


@pytest.mark.parametrize("library", ["numpy", "torch"])
@pytest.mark.parametrize("name", PUBLIC)
def test_empty_batches(name, library):
    function = getattr(bounds, name)
    code = function.__code__
    names = code.co_varnames[: code.co_argcount]
    shapes = dict(EMPTY)
    if name in ("decoupled", "shared_prompt_loss_increase"):
        shapes |= {"log_d": (0, 2, 2), "reward": (0, 2, 2), "beta": (0, 2)}
    given = {n: np.zeros(shapes[n]) for n in names if n in shapes}
    if library == "torch":
        given = {n: torch.tensor(value) for n, value in given.items()}
    if "tree" in names:
        given["tree"] = TokenTree.balanced(2)
    given |= {
        name: value
        for name, value in {"k": 1, "group_size": 4, "leash": "k2"}.items()
        if name in names
    }
    if name == "group_normalized_success":
        given["leash"] = "reverse"
    if "recipe" in names:
        given["recipe"] = Recipe("group-mean", "k3-in-loss", beta=1.0, group_size=4)
    if name == "joint_path":
        given["beta"] = 1.0
    if name in AVERAGES:
        with pytest.raises(ValueError, match="log_d: no prompts"):
            function(**given)
        return
    results = function(**given)
    for result in results if isinstance(results, tuple) else (results,):
        assert isinstance(result, str) or 0 in result.shape
