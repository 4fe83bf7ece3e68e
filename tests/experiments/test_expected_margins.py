"""The plan before RL: each row's margin at the exact optimum, against plain sums over a small world."""

import numpy as np
import pytest
from validate.orders import STAGES
from validate.pareto import Landscape
from validate.sampled.landscape import ExpectedEnd, expected_margins

BETA, WEIGHT = 0.5, 0.2
REWARD = np.array([[0.0, 1.0, 0.25, 1.0], [0.5, 0.0, 1.0, 0.0]])
REF = np.array([[0.4, 0.2, 0.3, 0.1], [0.25, 0.25, 0.1, 0.4]])
DATA = np.array([[0.5, 0.3, 0.2, 0.0], [0.4, 0.5, 0.1, 0.0]])


def land_of(data):
    with np.errstate(divide="ignore"):
        return Landscape(np.log(data), np.log(REF), REWARD, BETA, np.ones((2, 1)))


def margins_of(land, self_distilled):
    end = ExpectedEnd(STAGES["rl"], land.tilt, "S1", "F3")
    return expected_margins(land, WEIGHT, self_distilled, end)


@pytest.fixture
def margins():
    found = {row.statement: row for row in margins_of(land_of(DATA), False)}
    assert list(found) == ["S7", "S9", "S6", "S10", "J2"]
    return found


@pytest.fixture
def tilt():
    weights = REF * np.exp(REWARD / BETA)
    return weights / weights.sum(axis=1, keepdims=True)


def kl(p, q):
    return np.where(p > 0, p * np.log(np.where(p > 0, p, 1.0) / q), 0.0).sum(axis=-1)


def test_the_rise_that_rl_and_its_logs_prove(margins, tilt):
    rise = kl(DATA, tilt) - kl(DATA, REF)
    np.testing.assert_allclose(margins["S6"].per_prompt, rise, rtol=1e-12)
    np.testing.assert_allclose(margins["S10"].per_prompt, rise, rtol=1e-12)
    ratio = tilt / REF
    spread = ((REF * ratio**2).sum(axis=1) - 1).mean()
    assert margins["S6"].noise == pytest.approx(spread, rel=1e-12)


def test_at_another_end_the_logs_prove_less_and_vary():
    """(J_b(p) - J(d))/beta, with the spread of r - beta log p/ref over p, which the tilt alone has not."""
    p = np.array([[0.2, 0.5, 0.2, 0.1], [0.3, 0.2, 0.3, 0.2]])
    end = ExpectedEnd(STAGES["weighted-sft"], np.log(p), "T9", "T9")
    found = {row.statement: row for row in expected_margins(land_of(DATA), WEIGHT, False, end)}
    assert list(found) == ["S7", "S9", "S10", "J2"]
    each = REWARD - BETA * np.log(p / REF)
    regularised = (p * each).sum(axis=1)
    proved = (regularised - (DATA * REWARD).sum(axis=1)) / BETA
    np.testing.assert_allclose(found["S10"].per_prompt, proved, rtol=1e-12)
    spread = (p * (each - regularised[:, None]) ** 2).sum(axis=1).mean()
    assert found["S10"].noise == pytest.approx(spread / BETA**2)
    assert "value of SFT on weighted responses" in found["J2"].quantity


def test_no_law_on_a_grid_passes_the_price_of_rl(margins, tilt):
    """S7's margin is what the tilt pays above the cheapest laws with its average reward: at most its excess."""
    paid = kl(DATA, tilt).mean()
    least = paid - margins["S7"].per_prompt.mean()
    rng = np.random.default_rng(0)
    reached = (tilt * REWARD).sum(axis=1).mean()
    laws = rng.dirichlet(np.ones(4), size=(200_000, 2))
    enough = laws[(laws * REWARD).sum(axis=2).mean(axis=1) >= reached]
    cheapest = kl(DATA, enough).mean(axis=1).min()
    assert len(enough) > 1000
    assert 0 < least <= cheapest < least + 0.1


def test_mass_off_the_data_is_what_s9_leaves_out(margins, tilt):
    difference = margins["S7"].per_prompt - margins["S9"].per_prompt
    assert (difference > 0).all()
    # The ratio of a response off the data is at least that of the best one, and grows as the reward falls: E_p[b 1].
    assert (difference[1] / tilt[1, 3]) > (difference[0] / tilt[0, 3])
    assert (margins["S9"].per_prompt.mean()) > 0


def test_what_rl_alone_leaves_to_joint_training(margins, tilt):
    def value(p):
        return (p * REWARD).sum(axis=-1) - BETA * kl(p, REF) - WEIGHT * kl(DATA, p)

    gap = margins["J2"].per_prompt
    rng = np.random.default_rng(1)
    best = value(rng.dirichlet(np.ones(4), size=(100_000, 2))).max(axis=0)
    assert (best <= value(tilt) + gap).all()
    np.testing.assert_allclose(best, value(tilt) + gap, atol=0.01)


def test_self_distilled_data_have_the_price_and_the_joint_optimum():
    rows = list(margins_of(land_of(REF), True))
    assert [row.statement for row in rows] == ["S5", "J2"]
    assert all(row.per_prompt.mean() > 0 for row in rows)


def test_what_rl_alone_leaves_to_joint_training_on_its_own_data(tilt):
    """Against a search over laws; and the noise, as one of many responses moves the margin that is estimated."""
    gap = list(margins_of(land_of(REF), True))[-1]

    def value(p):
        return (p * REWARD).sum(axis=-1) - BETA * kl(p, REF) - WEIGHT * kl(REF, p)

    rng = np.random.default_rng(1)
    laws = rng.dirichlet(np.ones(4), size=(100_000, 2))
    best = value(laws).max(axis=0)
    assert (best <= value(tilt) + gap.per_prompt).all()
    np.testing.assert_allclose(best, value(tilt) + gap.per_prompt, atol=0.01)
    joint = laws[value(laws).argmax(axis=0), [0, 1]]
    ratio, count = REF / joint, 1000
    drawn = np.stack([rng.multinomial(count, law, size=4000) for law in REF]) / count
    weights = np.exp((REWARD + WEIGHT * ratio) / BETA)[:, None]
    soft = BETA * np.log((drawn * weights).sum(axis=-1))
    estimates = soft - WEIGHT * (drawn * np.log(ratio)[:, None]).sum(axis=-1)
    assert gap.noise == pytest.approx(count * estimates.var(axis=1).mean(), rel=0.1)


@pytest.mark.parametrize("data", [DATA, REF])
def test_a_class_without_mass_changes_nothing(data):
    """Of rewards that off the list only another prompt saw."""

    def with_empty(log_p):
        return np.hstack([log_p, np.full((2, 1), -np.inf)])

    plain = land_of(data)
    reward = np.hstack([REWARD, [[0.0], [0.75]]])
    wider = Landscape(with_empty(plain.log_d), with_empty(plain.log_ref), reward, BETA, plain.best)
    self_distilled = data is REF
    rows = margins_of(plain, self_distilled)
    for row, wide in zip(rows, margins_of(wider, self_distilled), strict=True):
        assert wide.statement == row.statement
        np.testing.assert_allclose(wide.per_prompt, row.per_prompt, rtol=1e-9)
        assert wide.noise == pytest.approx(row.noise, rel=1e-9)
