"""No choice that a forecast guarantees, and no decision, is wrong more often than it says: the second table."""

from __future__ import annotations

import math

import numpy as np
import pytest
from choices_coverage import (
    BEGIN,
    BETA,
    COLUMNS,
    DECISIONS,
    END,
    HEAD,
    ITALIC,
    PLUG_IN,
    WEIGHT,
    Truth,
    Wrong,
    row,
)
from choices_coverage import simulated as simulated_choices
from forecast_coverage import DATA, DELTA, PAGE, refuted, with_rows
from known_runs import RUNS, of_success

from nondecoupling import bounds
from nondecoupling.forecast import AtBeta, Estimate, Recommendation

MARKS = BEGIN, HEAD, END


def test_the_truth_is_that_of_the_laws():
    """One kind of prompt, two responses: the tilt has one number, its chance of success."""
    truth = Truth(of_success([0.2], [0.5]))
    exact, weaker = truth.radii(BETA)
    soft = BETA * math.log(0.8 + 0.2 * math.exp(1 / BETA))
    at_radius = [soft * math.log(soft / 0.2) + (1 - soft) * math.log((1 - soft) / 0.8)]
    assert exact == pytest.approx(at_radius[0], rel=1e-6)
    assert 0 < weaker < exact
    loss = truth.joint_loss(BETA, WEIGHT)
    assert 0 < loss < truth.at(BETA)["own_loss_change"]
    # No other chance of success is better for what joint training maximises.
    c = np.linspace(0.01, 0.99, 9999)
    law, others = np.log([[0.8, 0.2]]), np.log(np.stack([1 - c, c], axis=1))
    worth = c - BETA * bounds.kl_divergence(others, law)
    worth = worth - WEIGHT * bounds.kl_divergence(law, others)
    best = others[int(np.argmax(worth))][None]
    assert loss == pytest.approx(float(bounds.kl_divergence(law, best)[0]), abs=1e-4)


def answer(beta):
    there = Estimate(0.0, 0.0, 0.0, 0.9, "")
    found = AtBeta(beta, there, there, None, None, None)
    return Recommendation("", found, found, None, None, "")


@pytest.mark.parametrize(
    ("beta", "what", "column"),
    [(0.499, "budget", "beyond the budget"), (0.501, "reward", "short of the reward")],
)
def test_a_choice_that_is_a_shade_too_bold_is_counted(beta, what, column):
    found = Wrong(RUNS["binary"])
    found.worlds = 2
    found._choices(answer(BETA), what)
    assert found.wrong[column] == 0
    found._choices(answer(beta), what)
    assert found.wrong[column] == 1
    assert "| 50.0 |" in row("binary, heavy", 8, found)


@pytest.mark.slow  # many worlds
@pytest.mark.parametrize("data", DATA)
def test_guarantees_hold_and_the_plug_in_does_not(data):
    found = simulated_choices(data, 64, 60)
    for column in COLUMNS:
        if column not in ITALIC:
            among = found.worlds if column in DECISIONS else found.given[column]
            assert not refuted(found.wrong[column], among, DELTA), column
    assert found.given["beyond the budget"] == 60
    if data == "graded, heavy":
        assert refuted(found.wrong[PLUG_IN], found.given[PLUG_IN], DELTA)


def cells(page):
    """(data, k, column, per cent wrong, whether crossed) of each number."""
    table = page.split(BEGIN)[1].split(END)[0].removeprefix(HEAD)
    for line in table.splitlines():
        data, k, *numbers = (cell.strip() for cell in line.strip("|").split("|"))
        for column, text in zip(COLUMNS, numbers, strict=True):
            if text != "refused":
                yield data, int(k), column, float(text.split()[0]), "✗" in text


def failing(page):
    return [cell for cell in cells(page) if cell[2] not in ITALIC and (cell[4] or cell[3] > 10)]


def test_no_guarantee_of_the_committed_table_fails():
    page = PAGE.read_text()
    found = list(cells(page))
    assert {(data, k) for data, k, *_ in found} == {(data, k) for data in DATA for k in (8, 64)}
    assert failing(page) == []
    assert any(column == PLUG_IN and crossed for _, _, column, _, crossed in found)
    first = page.split(HEAD)[1].splitlines()[0]
    cell = first.split(" | ")[2]
    for broken in ("10.1", "3.0 ✗"):
        assert len(failing(page.replace(first, first.replace(cell, broken, 1)))) == 1


def test_a_row_takes_its_place_in_the_table():
    page = PAGE.read_text()
    rows = page.split(HEAD)[1].split(END)[0].splitlines()
    (line,) = (line for line in rows if line.startswith("| binary, light | 8 |"))
    assert with_rows(page, line, MARKS) == page
    without = page.replace(line + "\n", "")
    assert without != page and with_rows(without, line, MARKS) == page
