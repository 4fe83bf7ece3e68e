"""What a type checker says of a user's file: wrong types are refused, right ones keep their kind, none is Any."""

from __future__ import annotations

import inspect
import re
import sys
import typing
from pathlib import Path

import pytest
from mypy import api

import nondecoupling
from nondecoupling import bounds
from tests.public_functions import PUBLIC

PACKAGE = Path(nondecoupling.__file__).parents[1]

HEADER = """
import numpy as np
import torch
from numpy.typing import NDArray
from nondecoupling import bounds
from nondecoupling.policies import TokenTree
from nondecoupling.recipes import Recipe

law: NDArray[np.float64] = np.log(np.array([0.5, 0.5]))
reward = np.array([0.0, 1.0])
tensors = torch.tensor(law), torch.tensor(reward)
tensor = tensors[0]
recipe, tree = Recipe("leave-one-out", "k3-in-loss", 0.5), TokenTree(((0,), (1,)))
"""
RESULTS = [kind for name in bounds.__all__ if isinstance(kind := getattr(bounds, name), type)]
OF_THEIR_KIND = {"recipe": "recipe", "tree": "tree", "k": "1", "group_size": "8"}
RIGHT = {
    "reveal_type(bounds.coupling_gap(law, reward, 1.0))": "ndarray",
    "reveal_type(bounds.coupling_gap([-0.7, -0.7], [0, 1], beta=0.2))": "ndarray",
    "reveal_type(bounds.coupling_gap([[-0.7, -0.7]], [[0, 1]], beta=[0.2]))": "ndarray",
    "reveal_type(bounds.coupling_gap(*tensors, beta=0.2))": "Tensor",
    "reveal_type(bounds.price_of_reward(tensors[0], reward, np.float64(0.7)))": "Tensor",
    "reveal_type(bounds.frontier_policy(law, reward, 2.0)[0])": "ndarray",
    "reveal_type(bounds.joint_optimum(*tensors[:1], law, reward, 1.0, 0.1))": "Tensor",
    "reveal_type(bounds.decoupled(law, law, [law, law], [reward, reward]))": "numpy.bool",
}
WRONG = [
    'bounds.coupling_gap("nonsense", reward, 1.0)',
    "bounds.coupling_gap(law, None, 1.0)",
    'bounds.coupling_gap(law, reward, beta="0.2")',
    "bounds.coupling_gap(law, reward, beta=1j)",
    "bounds.coupling_gap(law, reward)",
    "bounds.price_of_reward(law, reward, goal=0.7)",
    "bounds.joint_path(law, law, reward, 1.0, points=0.5)",
    "bounds.expected_reward({1: 0.5}, reward)",
]


def check(folder: Path, lines: list[str]) -> list[str]:
    """What mypy says about a file with the header and these lines, a string for each of them."""
    user = folder / "user.py"
    user.write_text(HEADER + "\n".join(lines) + "\n")
    options = ["--config-file=", "--cache-dir", str(folder / "cache")]
    report, problem, _ = api.run([*options, f"--python-executable={sys.executable}", str(user)])
    assert not problem
    first = HEADER.count("\n") + 1
    said = dict.fromkeys(range(first, first + len(lines)), "")
    for message in report.splitlines():
        place, _, text = message.partition(": ")
        if place.startswith(str(user)):
            said[int(place.rsplit(":", 1)[1])] += text
    return list(said.values())


def call(name: str, array: str) -> str:
    """A call with arrays of one library wherever real numbers go."""
    parameters = inspect.signature(getattr(bounds, name)).parameters.values()
    needed = [p.name for p in parameters if p.default is p.empty]
    words = {"leash": "'k3'"} if name == "per_token_optimum" else {}
    given = OF_THEIR_KIND | words
    return f"bounds.{name}({', '.join(f'{a}={given.get(a, array)}' for a in needed)})"


def any_left(text: str) -> bool:
    """Whether a type is Any, or has places that are, but for the shape and the precision of arrays."""
    known = ("numpy.floating[Any]", "np.floating[Any]", "tuple[Any, ...]", "ndarray[Any,")
    for part in known:
        text = text.replace(part, "")
    return re.search(r"\bAny\b", text) is not None


def test_no_public_signature_says_any():
    for name in PUBLIC:
        function = getattr(bounds, name)
        signatures = typing.get_overloads(function)
        assert len(signatures) == 2, f"{name}: one signature for NumPy and one for torch"
        for kind, signature in zip(("Array", "Tensor"), signatures, strict=True):
            said = signature.__annotations__
            assert not any(any_left(text) for text in said.values()), (name, said)
            assert kind in said["return"], (name, said)
    for kind in RESULTS:
        fields = {name: str(of) for name, of in kind.__annotations__.items()}
        assert not any(any_left(text) for text in fields.values()), (kind, fields)


def test_a_signature_that_says_any_is_seen():
    assert any_left("StationaryPolicy[Any]") and any_left("Any")
    assert not any_left("ndarray[Any, numpy.dtype[numpy.floating[Any]]]")


@pytest.mark.slow  # mypy reads the sources of torch and NumPy: half a minute
def test_no_user_is_given_any(tmp_path, monkeypatch):
    """Every public function on arrays and on tensors, and every place of a result."""
    monkeypatch.setenv("MYPYPATH", str(PACKAGE))
    calls = [(name, array) for name in PUBLIC for array in ("law", "tensor")]
    said = check(tmp_path, [f"reveal_type({call(*of)})" for of in calls])
    for of, text in zip(calls, said, strict=True):
        assert "Revealed type is" in text and "error" not in text, (of, text)
        assert not any_left(text), (of, text)
        kind, other = ("ndarray", "Tensor") if of[1] == "law" else ("Tensor", "ndarray")
        assert kind in text and other not in text, (of, text)


@pytest.mark.slow  # mypy reads the sources of torch and NumPy: half a minute
def test_a_users_file(tmp_path, monkeypatch):
    monkeypatch.setenv("MYPYPATH", str(PACKAGE))
    said = check(tmp_path, [*RIGHT, *WRONG])
    for line, kind, text in zip(RIGHT, RIGHT.values(), said, strict=False):
        assert "Revealed type is" in text and kind in text and "error" not in text, (line, text)
    for line, text in zip(WRONG, said[len(RIGHT) :], strict=True):
        assert text.startswith("error: "), (line, text)
