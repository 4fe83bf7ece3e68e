"""Bad input is refused by name, and no random call returns a wrong number, or a warning, in its place."""

from __future__ import annotations

import inspect
import re
import warnings
from dataclasses import fields, is_dataclass, replace

import numpy as np
import pytest

from nondecoupling import estimate
from nondecoupling.estimate import (
    Interval,
    Outcome,
    SamplerComparison,
    TokenScores,
    binomial_interval,
    bootstrap_interval,
    cluster_means,
    compare_sampler,
    coupling_samples,
    decide,
    detectable_effect,
    guarded_reward,
    holm,
    kl_estimate,
    mean_interval,
    mean_lower_bound,
    mean_sequence,
    mean_soft_value,
    optimality_gap,
    paired_differences,
    required_samples,
    sampler_pit,
    sequence_totals,
    soft_value,
    token_scores,
)

ONES, GOOD = np.ones(4), Interval(0.0, 1.0, 0.5, 0.5, 3, "made up")
MANY = np.arange(64.0) % 7
LAW = np.log(np.tile([0.5, 0.3, 0.2], (2, 3, 1)))
SCORES = token_scores(LAW, np.ones((2, 3)), np.full((2, 3), -1.0), np.ones((2, 3)))


def scored(**changes):
    return compare_sampler(replace(SCORES, **changes), max_tokens=3)


BAD_INPUT = {
    "above": (lambda: mean_interval([0.5, 1.5], (0, 1), 0.05), r"samples\[1\]=1.5: outside bounds"),
    "nan": (
        lambda: mean_interval([[0.5, np.nan]], (0, 1), 0.05),
        r"samples\[0, 1\]=nan: must be fi",
    ),
    "empty": (
        lambda: mean_interval([], (0, 1), 0.05),
        r"samples has shape \(0,\): needs at least 1",
    ),
    "text": (lambda: mean_interval(["a"], (0, 1), 0.05), "samples=.*not a real array"),
    "scalar": (lambda: mean_interval(0.5, (0, 1), 0.05), r"samples has shape \(\)"),
    "bounds": (lambda: mean_interval(ONES, (1, 1), 0.05), r"bounds=\(1.0, 1.0\)"),
    "one bound": (lambda: mean_interval(ONES, 3, 0.05), "bounds=3: give two numbers"),
    "wide": (lambda: mean_interval(ONES, (-1e308, 1e308), 0.05), r"bounds=\(-1e\+308, 1e\+308\): "),
    "large": (lambda: bootstrap_interval(MANY * 1e307, 0.05), r"samples\[1\]=1e\+307: at most"),
    "method": (lambda: mean_interval(ONES, (0, 1), 0.05, method="t"), "method='t': choose one of"),
    "delta 0": (lambda: mean_interval(ONES, (0, 1), 0.0), r"delta=0.0: must lie strictly"),
    "delta 1": (lambda: binomial_interval(1, 2, 1.0), r"delta=1.0"),
    "delta nan": (lambda: bootstrap_interval(ONES, np.nan), r"delta=nan"),
    "floor": (lambda: mean_lower_bound([-1.0], 0, 1, 0.05), r"samples\[0\]=-1.0: outside"),
    "too many": (lambda: binomial_interval(3, 2, 0.05), "successes=3 of trials=2"),
    "half": (lambda: binomial_interval(0.5, 2, 0.05), "successes=0.5: must be a whole number"),
    "no trials": (lambda: binomial_interval(0, 0, 0.05), "trials=0.0: .* at least 1"),
    "uncountable": (lambda: binomial_interval(1, 1e17, 0.05), r"trials=1e\+17: .* at most 2\^53"),
    "one unit": (
        lambda: bootstrap_interval([1.0], 0.05),
        "samples has 1 independent units.* from 64 on",
    ),
    "resamples": (lambda: bootstrap_interval(MANY, 0.05, resamples=5), "resamples=5"),
    "half a resample": (lambda: bootstrap_interval(MANY, 0.05, resamples=100.5), "resamples=100.5"),
    "seed": (lambda: bootstrap_interval(MANY, 0.05, seed=-1), "seed=-1: .* at least 0"),
    "seed of a test": (lambda: sampler_pit(SCORES, max_tokens=3, seed=-1), "seed=-1"),
    "rounding": (lambda: bootstrap_interval(MANY, 0.05, rounding=-1.0), "rounding=-1.0"),
    "labels": (
        lambda: cluster_means(ONES, [1, 2]),
        r"prompts has shape \(2,\): .* the 4 responses",
    ),
    "no label": (lambda: cluster_means([1, 2], [None, "a"]), r"prompts\[0\]=None: give whole"),
    "two kinds": (lambda: cluster_means([1, 2], ["1", 1]), "prompts=.'1', 1.: .* not both"),
    "nan label": (lambda: cluster_means([1, 2], [np.nan, np.nan]), r"prompts\[0\]=nan"),
    "float label": (lambda: cluster_means([1, 2], np.array([1.0, 2.0])), r"prompts\[0\]=.*1.0"),
    "true label": (lambda: cluster_means([1, 2], [True, 1]), r"prompts\[0\]=True"),
    "text as labels": (lambda: cluster_means([1, 2], "ab"), r"prompts has shape \(\)"),
    "set of labels": (lambda: cluster_means([1, 2], {1, 2}), r"prompts has shape \(\)"),
    "masked label": (
        lambda: cluster_means([1, 2], np.ma.array([1, 2], mask=[1, 0])),
        "prompts=.*masked",
    ),
    "unpaired": (lambda: paired_differences(ONES, ONES, [1, 1, 2, 2], [1, 1, 1, 1]), "prompts: 2 "),
    "labels after": (
        lambda: paired_differences(ONES, ONES, [1, 1, 2, 2], [1, 1, 1, None]),
        r"prompts_after\[3\]=None",
    ),
    "beta": (lambda: soft_value(ONES, 0.0, (0, 1), 0.05), "beta=0.0: must be one positive"),
    "beta too small": (
        lambda: soft_value(ONES, 5e-324, (0, 1), 0.05),
        "beta=5e-324: .* from 1e-300",
    ),
    "reward": (lambda: soft_value(ONES, 1.0, (0, 0.5), 0.05), "outside reward_bounds"),
    "one axis": (lambda: mean_soft_value(ONES, 1.0, (0, 1), 0.05), "rewards .*at least 2 axes"),
    "gap delta": (
        lambda: optimality_gap(1, 2, GOOD, 1.0, 0.5),
        r"delta \+ regularized_reward.delta",
    ),
    "gap of a number": (
        lambda: optimality_gap(1, 2, 0.5, 1.0, 0.5),
        "regularized_reward=0.5: must",
    ),
    "ratios": (
        lambda: guarded_reward(ONES, [1.0], 1.0, (0, 1), 3.0, 0.05),
        r"log_ratios has shape \(1,\)",
    ),
    "cap": (lambda: guarded_reward(ONES, ONES, 1.0, (0, 1), -6.0, 0.05), "largest_log_ratio=-6.0"),
    "caps": (
        lambda: guarded_reward(ONES, ONES, 1.0, (0, 1), ONES, 0.05),
        "largest_log_ratio has sh",
    ),
    "no tokens": (
        lambda: sequence_totals(np.ones((2, 2)), [[1, 0], [0, 0]]),
        r"mask\[1\] keeps no",
    ),
    "mask shape": (lambda: sequence_totals(np.ones((2, 2)), [1, 0]), "mask has shape"),
    "mask values": (lambda: sequence_totals(np.ones((1, 2)), [[1, 2]]), "mask has other values"),
    "negative": (
        lambda: kl_estimate([[-1.0]], [[0.0]], delta=0.1),
        r"token_kl\[0, 0\]=-1.0: a KL is",
    ),
    "rows": (
        lambda: kl_estimate(np.ones((2, 1)), np.ones((3, 1)), delta=0.1),
        "the same responses",
    ),
    "effect": (lambda: required_samples(0.0, 1.0, 0.05), "effect=0.0: must be positive"),
    "sd": (lambda: detectable_effect(9, -1.0, 0.05), "sd=-1.0"),
    "power": (lambda: detectable_effect(9, 1.0, 0.05, power=1.0), "power=1.0"),
    "power of chance": (
        lambda: detectable_effect(9, 1.0, 0.4, power=0.2),
        "power=0.2: must be above delta/2=0.2",
    ),
    "power below chance": (
        lambda: required_samples(0.3, 1.0, 0.4, power=0.1),
        "power=0.1: must be above delta/2=0.2",
    ),
    "power below chance, bounds": (
        lambda: required_samples(0.3, 1.0, 0.4, power=0.1, bounds=(-1, 1)),
        "power=0.1: must be above",
    ),
    "power of a coupling": (
        lambda: coupling_samples(LAW[0, 0], np.arange(3.0), 2.0, 0.4, power=0.1),
        "power=0.1: must be above",
    ),
    "relation": (lambda: decide(GOOD, "<="), "relation='<='"),
    "tolerance": (lambda: decide(GOOD, tolerance=-1.0), "tolerance=-1.0"),
    "a number to decide": (lambda: decide(0.5), "margin=0.5: must be an Interval"),
    "upside down": (lambda: Interval(1.0, 0.0, 0.5, 0.1, 1, "made up"), "low=1.0, high=0.0"),
    "nan end": (lambda: GOOD + np.nan, "low=nan"),
    "complex factor": (lambda: GOOD * 1j, "factor=1j: not a real array"),
    "no level": (lambda: replace(GOOD, delta=0.0), "delta=0.0: must lie strictly"),
    "level of a product": (lambda: replace(GOOD * 3.0, delta=1.3), "delta=1.3: must lie strictly"),
    "level of a sum": (
        lambda: GOOD - replace(GOOD, delta=0.625),
        r"summand.delta=0.625: with the other's 0.5 at least 1",
    ),
    "a lenient margin": (
        lambda: holm([lambda delta: replace(GOOD, delta=delta), lambda _: GOOD], 0.5, "=="),
        r"margins\[1\]\(0.25\).delta=0.5: at most what it is called with",
    ),
    "no margins": (lambda: holm([], 0.05), "margins is empty"),
    "margins": (lambda: holm([GOOD], 0.05), "margins=.*give a list of functions"),
    "relations": (lambda: holm([lambda _: GOOD], 0.05, [">=", ">="]), "relations has 2 entries"),
    "chance": (lambda: scored(log_p=0.5 * np.ones((2, 3))), r"log_p\[0, 0\]=0.5: a log-prob"),
    "nan score": (lambda: scored(log_ref=np.full((2, 3), np.nan)), r"log_ref\[0, 0\]=nan"),
    "fields": (lambda: scored(mass_before=np.zeros((2, 2))), r"mass_before has shape \(2, 2\)"),
    "taus": (lambda: scored(log_sums=SCORES.log_sums[..., :7]), r"log_sums has shape \(2, 3, 7\)"),
    "order of taus": (
        lambda: scored(log_sums=SCORES.log_sums[..., ::-1]),
        r"log_sums \(tau = 0.5\)\[0, 0\]=.*below 0 for tau < 1",
    ),
    "sums below a term": (
        lambda: scored(log_sums=SCORES.log_sums - [5, 0, 0, 0, 0, 0, 0, 0]),
        r"log_sums \(tau = 0.5\)\[0, 0\]=.*one of its terms",
    ),
    "endless sums": (
        lambda: scored(
            log_p=np.full((2, 3), -np.inf), log_sums=SCORES.log_sums - [np.inf, *[0] * 7]
        ),
        r"log_sums \(tau = 0.5\)\[0, 0\]=-inf: .* finite",
    ),
    "endless sums above": (
        lambda: scored(log_sums=SCORES.log_sums + [*[0] * 7, np.inf]),
        r"log_sums \(tau = 2\)\[0, 0\]=inf: .* finite",
    ),
    "sums that overflow": (
        lambda: scored(log_ref=np.full((2, 3), -1e305)),
        r"log_ref\[0, 0\]=-1e\+305: at most 1e\+300",
    ),
    "no response": (
        lambda: compare_sampler(
            TokenScores(*(np.empty((0, 3, *shape)) for shape in ((), (8,), *[()] * 5))),
            max_tokens=3,
        ),
        r"log_p has shape \(0, 3\): needs at least one response",
    ),
    "no response to score": (
        lambda: token_scores(LAW[:0], *[np.ones((0, 3))] * 3),
        r"log_probs has shape \(0, 3, 3\): needs at least one response",
    ),
    "no vocabulary": (
        lambda: token_scores(LAW[:, :, :0], *[np.ones((2, 3))] * 3),
        r"log_probs has shape \(2, 3, 0\)",
    ),
    "unknown p-value": (
        lambda: SamplerComparison(ONES, ONES, ONES * [1, 0, np.nan, 1], 9).outcome(0.05),
        r"p_value\[2\]=nan: give one from 0 to 1",
    ),
    "mass": (lambda: scored(mass_before=SCORES.mass_before + 1), r"mass_before\[0, 0\]=1.5"),
    "nucleus": (lambda: scored(nucleus_mass=np.full((2, 3), 0.5)), r"nucleus_mass\[0, 0\]=0.5"),
    "membership": (lambda: scored(in_nucleus=np.zeros((2, 3))), r"in_nucleus\[0, 0\]=0: a token"),
    "max_tokens": (lambda: compare_sampler(SCORES, max_tokens=2), "max_tokens=2: .* at least 3"),
    "no law": (
        lambda: token_scores(LAW - 1, np.ones((2, 3)), np.zeros((2, 3)), np.ones((2, 3))),
        r"log_probs\[0, 0\]=-1: the log of its sum",
    ),
    "few prompts": (
        lambda: kl_estimate(np.ones((64, 1)), np.ones((64, 1)), delta=0.1, prompts=[0] * 64),
        "prompts has 1 independent units",
    ),
    "shapes": (
        lambda: Interval(np.zeros(2), np.ones(3), 0.5, 0.1, 1, "made up"),
        "low, high, estimate: shapes",
    ),
    "counts": (lambda: binomial_interval([1, 2], [3, 3, 3], 0.1), "successes, trials: shapes .*2"),
    "sums": (
        lambda: GOOD * np.ones(2) + np.ones(3),
        r"summand, low: .* summand \(3,\), low \(2,\)",
    ),
    "vocabulary": (
        lambda: token_scores(LAW, np.full((2, 3), 3), np.zeros((2, 3)), np.ones((2, 3))),
        "tokens must be indices below 3",
    ),
}


@pytest.mark.parametrize("case", BAD_INPUT)
def test_bad_input_is_named_with_its_remedy(case):
    call, message = BAD_INPUT[case]
    with pytest.raises(ValueError, match=message):
        call()


def test_torch_samples_are_taken():
    torch = pytest.importorskip("torch")
    samples = torch.rand(40, generator=torch.Generator().manual_seed(0)).to(torch.bfloat16)
    interval = mean_interval(samples.requires_grad_(), (0, 1), 0.05)
    assert interval == mean_interval(samples.detach().double().numpy(), (0, 1), 0.05)
    assert cluster_means([1.0, 3.0], torch.tensor([5, 5])).tolist() == [2.0]


# --- every function, argument and unwelcome kind ---------------------------------------------------

# function -> arguments of a call that succeeds; those that are arrays come first, then numbers
CALLS = {
    "mean_interval": dict(samples=MANY, bounds=(0, 7), delta=0.1, method="betting"),
    "mean_sequence": dict(samples=MANY[:9], bounds=(0, 7), delta=0.1),
    "mean_lower_bound": dict(samples=MANY, floor=0.0, cap=3.0, delta=0.1, method="time-uniform"),
    "binomial_interval": dict(successes=3, trials=9, delta=0.1),
    "bootstrap_interval": dict(samples=MANY, delta=0.2, resamples=100, seed=0, rounding=0.0),
    "cluster_means": dict(values=MANY, prompts=np.arange(64) // 2),
    "paired_differences": dict(
        before=MANY, after=MANY, prompts=np.arange(64) // 2, prompts_after=np.arange(64) // 2
    ),
    "sequence_totals": dict(token_values=np.ones((4, 3)), mask=np.ones((4, 3))),
    "kl_estimate": dict(
        token_kl=MANY.reshape(64, 1) / 9,
        token_log_ratio=MANY.reshape(64, 1) / 9,
        mask=np.ones((64, 1)),
        delta=0.2,
        prompts=np.arange(64),
        resamples=100,
        seed=0,
        rounding=0.0,
    ),
    "soft_value": dict(rewards=MANY, beta=1.0, reward_bounds=(0, 7), delta=0.1, method="bernstein"),
    "mean_soft_value": dict(
        rewards=MANY.reshape(16, 4), beta=1.0, reward_bounds=(0, 7), delta=0.1, method="betting"
    ),
    "binary_soft_value": dict(successes=3, trials=9, beta=1.0, delta=0.1),
    "optimality_gap": dict(successes=3, trials=9, regularized_reward=GOOD, beta=1.0, delta=0.1),
    "guarded_reward": dict(
        rewards=MANY,
        log_ratios=MANY,
        beta=1.0,
        reward_bounds=(0, 7),
        largest_log_ratio=3.0,
        delta=0.1,
        prompts=np.arange(64) // 2,
        method="betting",
    ),
    "required_samples": dict(effect=0.1, sd=0.5, delta=0.1, power=0.9, bounds=(-1, 1)),
    "detectable_effect": dict(samples=9, sd=0.5, delta=0.1, power=0.9),
    "decide": dict(margin=GOOD, relation=">=", tolerance=0.1),
    "holm": dict(
        margins=[lambda delta: replace(GOOD, delta=delta)], delta=0.1, relations=">=", tolerance=0.1
    ),
    "Interval": dict(low=0.0, high=1.0),
    "token_scores": dict(
        log_probs=LAW, tokens=np.ones((2, 3)), log_ref=np.zeros((2, 3)), mask=np.ones((2, 3))
    ),
    "compare_sampler": {f.name: getattr(SCORES, f.name) for f in fields(SCORES)}
    | dict(max_tokens=3, seed=0),
}
# Reached through the functions above, or tested with bounds, whose errors they pass on.
THROUGH_OTHERS = {"bootstrap_intervals", "sampler_e_value", "sampler_pit", "coupling_samples"}
RESULTS = {"KLEstimate", "Outcome", "SamplerComparison", "SoftValue", "TokenScores"}
CONSTANTS = {"LEAST_UNITS", "NUCLEUS", "TEMPERATURES"}


def call(name, arguments):
    if name == "Interval":
        return Interval(**arguments, estimate=0.5, delta=0.1, units=3, method="made up")
    if name == "compare_sampler":
        scores = {f.name: arguments[f.name] for f in fields(TokenScores)}
        rest = {key: value for key, value in arguments.items() if key not in scores}
        return compare_sampler(TokenScores(**scores), **rest)
    return getattr(estimate, name)(**arguments)


def test_every_function_is_called_below():
    assert set(CALLS) | THROUGH_OTHERS | RESULTS | CONSTANTS == set(estimate.__all__)
    for name, arguments in CALLS.items():
        call(name, arguments)
        if name != "compare_sampler":
            named = set(inspect.signature(getattr(estimate, name)).parameters)
            assert set(arguments) <= named


def unwelcome():
    torch = pytest.importorskip("torch")
    from scipy import sparse

    return {
        "complex": np.array([1 + 1j, 2.0]),
        "complex number": 0.5j,
        "masked": np.ma.array([0.5, 0.5], mask=[True, False]),
        "masked number": np.ma.array(0.5, mask=True),
        "datetime": np.array(["2026-01-01"], dtype="datetime64[D]"),
        "structured": np.array([(1.0, 2)], dtype=[("a", float), ("b", int)]),
        "digits as text": ["1", "0"],
        "text": "0.5",
        "objects": [object()],
        "nothing in a list": [None, 0.5],
        "ragged": [[0.5], [0.5, 0.5]],
        "beyond float64": 10**400,
        "beyond float64, in a list": [10**400],
        "sparse": sparse.csr_array(np.eye(2)),
        "meta tensor": torch.ones(2, device="meta"),
        "sparse tensor": torch.eye(2).to_sparse(),
        "complex tensor": torch.ones(2, dtype=torch.complex64),
        "dictionary": {"a": 1.0},
    }


LABELS = {"prompts", "prompts_after"}
CHOICES = {"method", "relation", "relations"}
# A list of functions, and an interval.
OTHER_KINDS = {"margins", "margin", "regularized_reward"}


@pytest.mark.parametrize(
    ("name", "argument"), [(n, a) for n, arguments in CALLS.items() for a in arguments]
)
def test_unwelcome_kinds_are_refused_by_name(name, argument):
    for kind, value in unwelcome().items():
        if argument in LABELS and kind in ("digits as text",):
            continue  # two good labels, but the wrong number of them for these calls
        message = refusal(name, CALLS[name] | {argument: value})
        assert re.match(rf"\W*{argument}\b", message), f"{kind}: {message}"
        assert len(message) < 400, kind


def refusal(name, arguments):
    """The text of the error of a call, which must not warn."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            result = call(name, arguments)
        except ValueError as error:
            return str(error)
    raise AssertionError(f"{name}: {result}")


# --- random calls ----------------------------------------------------------------------------------


def random_value(rng, good):
    """Something in place of a good argument: extremes, odd shapes and types, small changes."""
    numbers = [0.0, -0.0, 1.0, -1.0, 0.5, 2, 3, -7, 64, 1e-5, 1e-320, 5e-324, 1e-300, 1e16, 1e17]
    numbers += [1e150, 1e300, 1e307, -1e307, 1e308, np.inf, -np.inf, np.nan, True, 2**53 + 1]
    numbers += [10**400, np.float32(0.1), np.int8(3), np.longdouble("1e4000"), None, "0.5", 1j]
    number = numbers[rng.integers(len(numbers))]
    array = np.asarray(good) if isinstance(good, (np.ndarray, float, int, tuple)) else MANY
    kind = rng.integers(9)
    if kind <= 1:
        return number
    if kind == 2:
        return (number, numbers[rng.integers(len(numbers))])
    if kind == 3:
        return [number] * int(rng.choice([0, 1, 2, 64]))
    if kind == 4:
        shapes = [(0,), (1,), (2, 0), (64,), (3, 64), (64, 1), (1, 2, 3), array.shape]
        return rng.normal(size=shapes[rng.integers(len(shapes))])
    if kind == 5 and array.size and array.dtype.kind in "iuf":
        return with_one_replaced(rng, array, number)
    if kind == 6 and array.dtype.kind in "iuf":
        return array * rng.choice([1e-320, 1e-30, 1e-8, 1e8, 1e30, 1e299])
    if kind == 7 and array.ndim:
        return np.broadcast_to(array, (2, *array.shape))
    return array.astype(rng.choice(["f2", "f4", "f8", "?", "U9", "O", "g"]))


def with_one_replaced(rng, array, number):
    changed = np.array(array, dtype=np.float64)
    try:
        with np.errstate(over="ignore"):
            changed.flat[rng.integers(changed.size)] = number
    except (TypeError, ValueError, OverflowError):
        return number
    return changed


def proper(result):
    """Nothing in it is NaN, and ends are in order."""
    if isinstance(result, Interval):
        low, high = np.asarray(result.low), np.asarray(result.high)
        return bool((low <= high).all()) and not np.isnan(np.asarray(result.estimate)).any()
    if isinstance(result, TokenScores):
        return True
    if is_dataclass(result):
        return all(proper(getattr(result, field.name)) for field in fields(result))
    if isinstance(result, Outcome):
        return True
    array = np.asarray(result)
    if array.dtype == object:
        return all(isinstance(one, Outcome) for one in array.ravel())
    return not np.isnan(array).any()


@pytest.mark.parametrize("calls", [400, pytest.param(20_000, marks=pytest.mark.slow)])
def test_random_calls_give_a_proper_result_or_name_an_argument(calls):
    rng = np.random.default_rng(calls)
    names = list(CALLS)
    returned = 0
    for index in range(calls):
        name = names[rng.integers(len(names))]
        arguments = dict(CALLS[name])
        for argument in rng.choice(list(arguments), size=rng.integers(1, 3)):
            if argument not in OTHER_KINDS:
                arguments[argument] = random_value(rng, CALLS[name][argument])
        shown = f"call {index}: {name}({arguments})"
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            try:
                result = call(name, arguments)
            except Exception as error:
                named = re.match(rf"\W*({'|'.join(arguments)})\b", str(error))
                if not (isinstance(error, ValueError) and named):
                    raise AssertionError(f"{shown}: {error!r}") from error
                continue
        assert proper(result), f"{shown}: {result}"
        returned += 1
    assert returned > calls / 10  # not everything is refused


# --- batches without a world -------------------------------------------------------------------------

NONE, PAIRS = np.zeros((0, 64)), np.arange(64) // 2
NO_INTERVAL = Interval(NONE[:, 0], NONE[:, 0], NONE[:, 0], 0.01, 3, "made up")
NO_SCORES = np.zeros((0, 2, 3))
EMPTY = {
    "mean_interval": lambda: mean_interval(NONE, (0, 1), 0.05).low,
    "mean_interval, weighted": lambda: mean_interval(NONE, (0, 1), 0.05, weights=PAIRS).low,
    "bernstein": lambda: mean_interval(NONE, (0, 1), 0.05, method="bernstein").high,
    "mean_sequence": lambda: mean_sequence(NONE, (0, 1), 0.05).low[:, -1],
    "mean_lower_bound": lambda: mean_lower_bound(NONE, 0, 1, 0.05).low,
    "binomial_interval": lambda: binomial_interval(NONE[:, 0], 9, 0.05).low,
    "bootstrap_interval": lambda: bootstrap_interval(NONE, 0.1, resamples=100).low,
    "cluster_means": lambda: cluster_means(NONE, PAIRS)[:, 0],
    "paired_differences": lambda: paired_differences(NONE, NONE, PAIRS)[:, 0],
    "sequence_totals": lambda: sequence_totals(NONE[..., None])[:, 0],
    "kl_estimate": lambda: (
        kl_estimate(*[NONE[..., None]] * 2, delta=0.1, resamples=100).log_ratio.low
    ),
    "soft_value": lambda: soft_value(NONE, 1.0, (0, 1), 0.05).value.low,
    "mean_soft_value": lambda: mean_soft_value(NONE[..., None], 1.0, (0, 1), 0.05).value.low,
    "optimality_gap": lambda: optimality_gap(NONE[:, 0], 9, NO_INTERVAL, 1.0, 0.05).low,
    "guarded_reward": lambda: guarded_reward(NONE, NONE, 1.0, (0, 1), 3.0, 0.05).low,
    "required_samples": lambda: required_samples(NONE[:, 0], 1.0, 0.05),
    "required_samples, bounds": lambda: required_samples(NONE[:, 0], 1.0, 0.05, bounds=(0, 1)),
    "detectable_effect": lambda: detectable_effect(NONE[:, 0], 1.0, 0.05),
    "coupling_samples": lambda: coupling_samples(NONE, NONE, 1.0, 0.05),
    "decide": lambda: decide(NO_INTERVAL),
    "holm": lambda: holm([lambda delta: replace(NO_INTERVAL, delta=delta)], 0.05)[:, 0],
    "compare_sampler": lambda: compare_sampler(
        token_scores(NO_SCORES[..., None], *[NO_SCORES] * 2, NO_SCORES), max_tokens=3
    ).outcome(0.05),
}


@pytest.mark.parametrize("name", EMPTY)
def test_no_worlds_give_no_results(name):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.shape(EMPTY[name]()) == (0,)


def test_an_improper_result_is_seen():
    assert not proper(replace(GOOD, estimate=np.nan))
    assert not proper(SamplerComparison(np.nan, 0.0, 1.0, 3))
    assert not proper(np.array([1.0, np.nan]))
    assert proper(GOOD) and proper(np.array([np.inf]))
