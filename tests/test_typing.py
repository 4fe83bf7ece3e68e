"""What a type checker says of a user's file: wrong types are refused, right ones keep their kind."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from mypy import api

import nondecoupling

PACKAGE = Path(nondecoupling.__file__).parents[1]

HEADER = """
import numpy as np
import torch
from numpy.typing import NDArray
from nondecoupling import bounds

law: NDArray[np.float64] = np.log(np.array([0.5, 0.5]))
reward = np.array([0.0, 1.0])
tensors = torch.tensor(law), torch.tensor(reward)
"""
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


@pytest.mark.slow  # mypy reads the sources of torch and NumPy: half a minute
def test_a_users_file(tmp_path, monkeypatch):
    monkeypatch.setenv("MYPYPATH", str(PACKAGE))
    said = check(tmp_path, [*RIGHT, *WRONG])
    for line, kind, text in zip(RIGHT, RIGHT.values(), said, strict=False):
        assert "Revealed type is" in text and kind in text and "error" not in text, (line, text)
    for line, text in zip(WRONG, said[len(RIGHT) :], strict=True):
        assert text.startswith("error: "), (line, text)
