"""Sampler against scorer: exact size on the sharpest policies, and power against the faults that happen."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from known_worlds import LEVEL, p_value
from scipy import stats
from token_worlds import END, at_temperature, nucleus, policies, sample, score

from nondecoupling.estimate import (
    NUCLEUS,
    TEMPERATURES,
    Outcome,
    compare_sampler,
    sampler_e_value,
    token_scores,
)

ALPHA = 0.05
LENGTH = 12
# how much logits are multiplied by, and the chance of ending at any token
KINDS = {
    "broad": dict(sharpness=1.0, end=0.15),
    "sharp": dict(sharpness=10.0, end=0.1),
    "very sharp": dict(sharpness=60.0, end=0.001),
}
BUDGETS = [400, pytest.param(4000, marks=pytest.mark.slow)]

# --- the definitions -------------------------------------------------------------------------------


def test_scores_are_those_of_the_definition():
    """Token by token, by counting."""
    rng = np.random.default_rng(0)
    law = rng.dirichlet(np.full(6, 0.5), size=(2, 3))
    law[0, 0] = [0.1, 0.3, 0.1, 0.3, 0.1, 0.1]  # ties are ranked by index
    tokens = rng.integers(0, 6, size=(2, 3))
    scores = token_scores(np.log(law), tokens, np.zeros((2, 3)), np.ones((2, 3)))
    for place in np.ndindex(2, 3):
        p, y = law[place], tokens[place]
        ranked = sorted(range(6), key=lambda v: (-p[v], v))
        first = ranked[: ranked.index(y)]
        count = next(k for k in range(1, 7) if p[ranked[:k]].sum() >= NUCLEUS - 1e-12)
        assert scores.log_p[place] == pytest.approx(np.log(p[y]))
        assert scores.mass_before[place] == pytest.approx(p[first].sum())
        assert scores.nucleus_mass[place] == pytest.approx(p[ranked[:count]].sum())
        assert scores.in_nucleus[place] == (y in ranked[:count])
        sums = [np.log((p ** (1 / tau)).sum()) for tau in TEMPERATURES]
        assert scores.log_sums[place] == pytest.approx(sums)


@pytest.mark.parametrize("seed", range(5))
def test_the_e_value_has_mean_one_under_the_hypothesis(seed):
    """Summed over every pair of responses of one or two tokens: the expectation, not an average."""
    rng = np.random.default_rng(seed)
    p, ref = rng.dirichlet(np.full(3, 0.4), size=(2, 4))  # laws given: nothing, 0, 1, 2
    responses = [(0,), *product((1, 2), range(3))]  # 0 ends a response; two tokens at most
    mean = 0.0
    for pair in product(responses, repeat=2):
        tokens, before = np.zeros((2, 2), dtype=int), np.zeros((2, 2), dtype=int)
        mask = np.zeros((2, 2))
        for row, response in enumerate(pair):
            tokens[row, : len(response)], mask[row, : len(response)] = response, 1
            before[row, 1:] = tokens[row, :1] + 1
        log_ref = np.log(ref)[before, tokens]
        scores = token_scores(np.log(p)[before], tokens, log_ref, mask)
        chance = np.exp((scores.log_p * mask).sum())
        mean += chance * np.exp(sampler_e_value(scores))
    assert mean == pytest.approx(1.0, abs=1e-9)


def test_the_ranges_of_the_transform_tile_the_unit_interval():
    law = np.random.default_rng(0).dirichlet(np.full(7, 0.3))
    tokens = np.arange(7)[None]
    scores = token_scores(
        np.log(np.tile(law, (1, 7, 1))), tokens, np.zeros((1, 7)), np.ones((1, 7))
    )
    starts = np.sort(scores.mass_before[0])
    ends = np.sort(scores.mass_before[0] + np.exp(scores.log_p[0]))
    assert starts[0] == pytest.approx(0) and ends[-1] == pytest.approx(1)
    np.testing.assert_allclose(starts[1:], ends[:-1], atol=1e-12)


def test_both_tests_have_half_of_the_level_and_ranks_count_on_either_side():
    """Bonferroni over an e-value (Markov) and a two-sided normal score."""
    drawn = true_scores(np.random.default_rng(0), 200, "broad")
    found = compare_sampler(drawn, max_tokens=LENGTH)
    by_betting = np.minimum(np.exp(-found.log_e_value), 1.0)
    by_ranks = stats.norm.sf(np.abs(found.pit_score)) + stats.norm.cdf(-np.abs(found.pit_score))
    expected = np.minimum(2 * np.minimum(by_betting, by_ranks), 1.0)
    np.testing.assert_allclose(found.p_value, expected)
    assert (found.pit_score > 0).any() and (found.pit_score < 0).any()


@pytest.mark.parametrize("unknown", [(0, 0), (1, 2), (2, slice(None))])
def test_a_token_that_cannot_be_is_a_mismatch_whatever_else_is_impossible(unknown):
    """Response 1 has a token of scored probability 0; the other policy has none, of this or another response."""
    law = np.tile([0.6, 0.4, 0.0], (3, 4, 1))
    tokens, log_ref = np.zeros((3, 4), dtype=int), np.full((3, 4), -1.0)
    tokens[1, 2], log_ref[unknown] = 2, -np.inf
    with np.errstate(divide="ignore"):
        scores = token_scores(np.log(law), tokens, log_ref, np.ones((3, 4)))
    found = compare_sampler(scores, max_tokens=4)
    assert found.log_e_value == np.inf and found.p_value == 0
    assert found.outcome(1e-9) is Outcome.VIOLATED


# --- size ------------------------------------------------------------------------------------------


def true_scores(rng, worlds, sharpness, n=24):
    p, ref = (policies(rng, worlds, **KINDS[sharpness]) for _ in range(2))
    drawn = sample(rng, p, n, LENGTH)
    return score(p, ref, drawn.texts, drawn.mask)


@pytest.mark.parametrize("sharpness", KINDS)
@pytest.mark.parametrize("worlds", BUDGETS)
def test_a_correct_sampler_is_rejected_no_more_often_than_the_level(sharpness, worlds):
    scores = true_scores(np.random.default_rng(1), worlds, sharpness)
    found = compare_sampler(scores, max_tokens=LENGTH + 4)
    assert p_value(found.log_e_value >= np.log(1 / ALPHA), ALPHA) >= LEVEL
    assert p_value(np.abs(found.pit_score) > stats.norm.ppf(1 - ALPHA / 2), ALPHA) >= LEVEL
    assert p_value(found.outcome(ALPHA) == Outcome.VIOLATED, ALPHA) >= LEVEL
    assert stats.kstest(found.pit_score, "norm").pvalue >= LEVEL  # exactly normal, not only at 5 %


def test_places_after_the_end_of_a_response_count_as_drawn():
    """Twenty times as many places as tokens: z would shrink if those were left empty."""
    scores = true_scores(np.random.default_rng(2), 400, "broad")
    found = compare_sampler(scores, max_tokens=20 * LENGTH)
    assert stats.kstest(found.pit_score, "norm").pvalue >= LEVEL


def test_a_sampler_with_the_seed_of_the_test_is_rejected_no_more_often():
    """V_t must not be the uniforms from which NumPy drew the tokens."""
    law, n = np.array([0.5, 0.3, 0.2]), 400
    rejected = []
    for seed in range(100):
        tokens = np.random.default_rng(seed).choice(3, p=law, size=(n, 1))
        log_law = np.broadcast_to(np.log(law), (n, 1, 3))
        scores = token_scores(log_law, tokens, np.full((n, 1), np.log(1 / 3)), np.ones((n, 1)))
        rejected.append(compare_sampler(scores, max_tokens=1, seed=seed).p_value <= ALPHA)
    assert p_value(np.array(rejected), ALPHA) >= LEVEL


def without_randomisation(scores):
    """U at the upper end of its range: not uniform."""
    uniform = np.clip(scores.mass_before + np.exp(scores.log_p), 1e-12, 1 - 1e-12)
    normal = np.where(scores.mask, stats.norm.ppf(uniform), 0.0).sum((-2, -1))
    return np.abs(normal / np.sqrt(scores.mask.sum((-2, -1)))) > stats.norm.ppf(1 - ALPHA / 2)


def without_the_normaliser(scores):
    """prod p^(1/tau - 1) without A_t(tau): its mean is not 1."""
    bets = [((1 / tau - 1) * np.where(scores.mask, scores.log_p, 0)) for tau in TEMPERATURES]
    return np.stack(bets).sum((-2, -1)).max(0) >= np.log(len(TEMPERATURES) / ALPHA)


@pytest.mark.parametrize("invalid", [without_randomisation, without_the_normaliser])
def test_an_invalid_test_fails_the_same_check(invalid):
    scores = true_scores(np.random.default_rng(1), 400, "broad")
    assert p_value(invalid(scores), ALPHA) < LEVEL


def test_a_bootstrap_of_log_ratios_rejects_correct_samplers():
    """What the tests here replace: mean log p/ref = KL(p||ref) per response, judged by resampling."""
    rng, worlds, n = np.random.default_rng(1), 300, 48
    p, ref = (policies(rng, worlds, **KINDS[s]) for s in ("very sharp", "broad"))
    drawn = sample(rng, p, n, LENGTH)
    world = np.arange(worlds)[:, None, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(p > 0, np.log(p / ref), 0.0)
    noisy = ratio[world, drawn.before, drawn.tokens]
    expected = (p * ratio).sum(-1)[world, drawn.before]
    values = np.where(drawn.mask, noisy - expected, 0.0).sum(-1)
    counts = rng.multinomial(n, np.full(n, 1 / n), size=1000)
    low, high = np.quantile(values @ counts.T / n, [ALPHA / 2, 1 - ALPHA / 2], axis=-1)
    assert p_value((low > 0) | (high < 0), ALPHA) < LEVEL


# --- power -----------------------------------------------------------------------------------------


def from_sampler(change):
    """Responses of a changed sampler, scored by p; the other policy is ref."""

    def faulty(rng, p, ref, n):
        drawn = sample(rng, change(p, ref), n, LENGTH)
        return score(p, ref, drawn.texts, drawn.mask)

    return faulty


def mask_to_the_left(rng, p, ref, n):
    """The prompt's token is taken for the first of the response, END is left out."""
    drawn = sample(rng, p, n, LENGTH)
    earlier = rng.integers(1, p.shape[-1], size=(*drawn.texts.shape[:2], 1))
    texts = np.concatenate([earlier, drawn.texts], axis=-1)
    return score(p, ref, texts, np.pad(drawn.mask, ((0, 0), (0, 0), (0, 1))))


def mask_without_the_end(rng, p, ref, n):
    """END is not counted: every response is scored as if it had to go on."""
    drawn = sample(rng, p, n, LENGTH)
    mask = drawn.mask & (drawn.tokens != END)
    mask[..., 0] = True  # an empty response is refused
    return score(p, ref, drawn.texts, mask)


def mask_with_padding(rng, p, ref, n):
    """One token of padding after END counts as a second END."""
    drawn = sample(rng, p, n, LENGTH)
    ended = drawn.mask.sum(-1, keepdims=True).clip(max=LENGTH - 1)
    mask = drawn.mask.copy()
    np.put_along_axis(mask, ended, True, -1)
    return score(p, ref, drawn.texts, mask)


def laws_one_token_late(rng, p, ref, n):
    """Tokens are scored by the law of the next place."""
    drawn = sample(rng, p, n, LENGTH)
    scores = score(p, ref, drawn.texts, drawn.mask)
    world = np.arange(len(p))[:, None, None]
    with np.errstate(divide="ignore"):
        log_law = np.log(p)[world, drawn.tokens]
    return token_scores(log_law, drawn.tokens, scores.log_ref, drawn.mask)


# fault -> (how it is made, policy, responses that find it in at least four worlds of five)
FAULTS = {
    "temperature 0.9, broad": (from_sampler(lambda p, _: at_temperature(p, 0.9)), "broad", 1500),
    "temperature 0.9, sharp": (from_sampler(lambda p, _: at_temperature(p, 0.9)), "sharp", 1500),
    "temperature 1.1": (from_sampler(lambda p, _: at_temperature(p, 1.1)), "broad", 1500),
    "temperature 0.8": (from_sampler(lambda p, _: at_temperature(p, 0.8)), "sharp", 500),
    "temperature 1.25": (from_sampler(lambda p, _: at_temperature(p, 1.25)), "sharp", 500),
    "top-p 0.95": (from_sampler(lambda p, _: nucleus(p, 0.95)), "broad", 500),
    "top-p 0.8": (from_sampler(lambda p, _: nucleus(p, 0.8)), "sharp", 500),
    "greedy": (from_sampler(lambda p, _: nucleus(p, 1e-9)), "sharp", 100),
    "the reference": (from_sampler(lambda _, ref: ref), "broad", 50),
    "the reference, sharper": (from_sampler(lambda _, ref: ref), "very sharp", 20),
    "halfway to the reference": (from_sampler(lambda p, ref: (p + ref) / 2), "sharp", 50),
    "a mask to the left": (mask_to_the_left, "broad", 200),
    "a mask without the end": (mask_without_the_end, "sharp", 3000),
    "a mask with padding": (mask_with_padding, "sharp", 1000),
    "laws one token late": (laws_one_token_late, "broad", 50),
}


LONG = 1000  # responses in each world from which on a fault is looked for in the slow suite
SEARCHES = [
    pytest.param(fault, marks=pytest.mark.slow if n >= LONG else ())
    for fault, (_, _, n) in FAULTS.items()
]


@pytest.mark.parametrize("fault", SEARCHES)
def test_a_fault_is_found(fault):
    make, sharpness, n = FAULTS[fault]
    rng = np.random.default_rng(2)
    p, ref = (policies(rng, 12, **KINDS[sharpness]) for _ in range(2))
    found = compare_sampler(make(rng, p, ref, n), max_tokens=LENGTH + 1)
    assert (found.outcome(ALPHA) == Outcome.VIOLATED).mean() >= 0.8
