"""``bounds.unchecked``: which functions torch can compile and map, and that this is what the table says."""

from __future__ import annotations

import math
import threading
from functools import partial

import numpy as np
import pytest
import torch

from nondecoupling import bounds
from nondecoupling.bounds.checks import CHECKS, SEARCHES
from nondecoupling.formulas.trees import TokenTree
from nondecoupling.recipes import Recipe
from tests.public_functions import PUBLIC

BATCH, N = 3, 4
CLOSED = sorted(set(PUBLIC) - SEARCHES)
OVER_PROMPTS = ("decoupled", "shared_prompt_loss_increase")
CONSTANTS = {
    "tree": TokenTree.balanced(N),
    "recipe": Recipe("leave-one-out", "k1-in-reward", 1.0),
    "k": 2,
    "sd": "population",
    "after": "sft",
    "group_size": 4,
}


def arguments_of(name: str, rng: np.random.Generator) -> dict[str, object]:
    """Of one call, each array with an axis of worlds before it."""
    per_response = (BATCH, 2, N) if name in OVER_PROMPTS else (BATCH, N)
    given: dict[str, object] = {}
    code = getattr(bounds, name).__code__
    for argument in code.co_varnames[: code.co_argcount]:
        if argument in CONSTANTS:
            given[argument] = CONSTANTS[argument]
        elif argument == "leash":
            given[argument] = "k2" if name == "per_token_optimum" else "reverse"
        elif argument.startswith("log_"):
            of_prompts = argument in ("log_sft", "log_rl")
            logits = rng.standard_normal((BATCH, 2) if of_prompts else per_response)
            given[argument] = torch.log_softmax(torch.tensor(logits), -1)
        elif argument in ("reward", "gold", "direction", "theta", "theta_prime", "u", "v"):
            given[argument] = torch.tensor(rng.standard_normal(per_response))
        elif argument == "kernel":
            root = torch.tensor(rng.standard_normal((BATCH, N, N)))
            given[argument] = root @ root.mT
        elif argument == "n":
            given[argument] = torch.tensor([2.0, 3.0, 4.0], dtype=torch.float64)
        else:  # a share or a positive number of each world; targets above success rates
            size = 0.6 if argument == "target" else 0.25
            share = torch.tensor(size + 0.1 * rng.random(BATCH))
            given[argument] = share[:, None].expand(BATCH, 2) if name in OVER_PROMPTS else share
    return given


def values(result: object) -> list[torch.Tensor]:
    return [x for x in (result if isinstance(result, tuple) else (result,)) if torch.is_tensor(x)]


def same(one: object, other: object) -> bool:
    pairs = zip(values(one), values(other), strict=True)
    return all(torch.allclose(a, b, rtol=1e-10, atol=1e-12) for a, b in pairs)


def mapped(function, given):
    """Over the axis of worlds."""
    arrays = [name for name, value in given.items() if torch.is_tensor(value)]
    fixed = {name: value for name, value in given.items() if name not in arrays}

    def one(*worlds):
        return function(**fixed, **dict(zip(arrays, worlds, strict=True)))

    return torch.func.vmap(one)(*(given[name] for name in arrays))


@pytest.mark.parametrize("name", CLOSED)
def test_closed_forms_are_mapped(name):
    given = arguments_of(name, np.random.default_rng(0))
    function = getattr(bounds, name)
    assert same(mapped(bounds.unchecked(function), given), function(**given))


def compiled(name: str, backend: str = "eager"):
    torch._dynamo.reset()
    unchecked = bounds.unchecked(getattr(bounds, name))
    return torch.compile(unchecked, fullgraph=True, backend=backend, dynamic=False)


def compiles(name: str) -> None:
    given = arguments_of(name, np.random.default_rng(0))
    assert same(compiled(name)(**given), getattr(bounds, name)(**given))


@pytest.mark.slow  # a second or two for each
@pytest.mark.parametrize("name", CLOSED)
def test_closed_forms_compile_as_one_graph(name):
    compiles(name)


@pytest.mark.slow  # torch's compiler takes seconds to import
def test_a_closed_form_compiles_with_a_plain_number_and_keeps_its_gradient():
    law = torch.log_softmax(torch.tensor([0.3, -0.2, 1.0], dtype=torch.float64), -1)
    reward = torch.tensor([0.0, 1.0, 3.0], dtype=torch.float64, requires_grad=True)
    gap = compiled("coupling_gap", "aot_eager")(law, reward, 0.5)
    (slope,) = torch.autograd.grad(gap, reward)
    (expected,) = torch.autograd.grad(bounds.coupling_gap(law, reward, 0.5), reward)
    assert torch.allclose(slope, expected)


@pytest.mark.parametrize("name", sorted(SEARCHES))
def test_a_search_is_refused_by_name_and_could_not_be_mapped(name):
    function = getattr(bounds, name)
    with pytest.raises(ValueError, match=f"function={name}: it searches for a root"):
        bounds.unchecked(function)
    given = arguments_of(name, np.random.default_rng(0))
    if name == "joint_path":
        given["beta"] = 0.25
    CHECKS.on = False
    try:
        with pytest.raises((RuntimeError, ValueError)):
            mapped(function, given)
    finally:
        CHECKS.on = True


def test_with_checks_nothing_is_mapped():
    given = arguments_of("kl_divergence", np.random.default_rng(0))
    with pytest.raises(RuntimeError):
        mapped(bounds.kl_divergence, given)


def test_numbers_are_not_looked_at_but_shapes_are():
    divergence = bounds.unchecked(bounds.kl_divergence)
    assert math.isfinite(float(divergence([-1.0, -1.0], [-2.0, -3.0])))
    with pytest.raises(ValueError, match="the last axis"):
        divergence([-1.0, -1.0], [-2.0, -3.0, -4.0])
    with pytest.raises(ValueError, match="sum to"):
        bounds.kl_divergence([-1.0, -1.0], [-2.0, -3.0])


def test_checks_come_back_after_an_error_and_stay_on_elsewhere():
    seen = []

    def other_thread():
        try:
            bounds.entropy([-1.0, -1.0])
        except ValueError as error:
            seen.append(str(error))

    def between(*laws, **rest):
        thread = threading.Thread(target=other_thread)
        thread.start()
        thread.join()
        raise KeyError("an error in the function")

    between.__module__, between.__name__ = "nondecoupling.bounds.laws", "between"
    with pytest.raises(KeyError):
        bounds.unchecked(between)()
    assert "sum to" in seen[0]
    with pytest.raises(ValueError, match="sum to"):
        bounds.entropy([-1.0, -1.0])


@pytest.mark.parametrize("function", [math.exp, "entropy", partial(bounds.entropy)])
def test_what_is_no_function_of_bounds_is_refused(function):
    with pytest.raises(ValueError, match=r"function=.*give a function of nondecoupling\.bounds"):
        bounds.unchecked(function)


def test_gradients_of_each_world_by_vmap_of_grad():
    law = torch.log_softmax(torch.tensor(np.random.default_rng(0).standard_normal((5, 3))), -1)
    reward = torch.tensor(np.random.default_rng(1).standard_normal((5, 3)))
    gap = bounds.unchecked(bounds.coupling_gap)
    slopes = torch.func.vmap(torch.func.grad(lambda r, d: gap(d, r, 0.5)))(reward, law)
    leaf = reward.clone().requires_grad_()
    (expected,) = torch.autograd.grad(bounds.coupling_gap(law, leaf, 0.5).sum(), leaf)
    assert torch.allclose(slopes, expected)
