"""The page "See it move" in a real browser: its laws are those of ``bounds``, and so is what it draws and writes."""

from __future__ import annotations

import json
import shutil
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from nondecoupling import bounds

pytest.importorskip("selenium", reason="the browser needs it: make setup")
from tests.browser import browser  # imports selenium

ROOT = Path(__file__).parents[1]
SITE = ROOT / "docs" / "site"
pytestmark = pytest.mark.slow  # a browser

RELATIVE, ABSOLUTE = 1e-9, 1e-12  # the second for values near zero
STOPS = ("sft", "rl", "half-rl")


@pytest.fixture(scope="module")
def chromium():
    with browser() as driver:
        yield driver


# --- the laws -----------------------------------------------------------------------------------

LAWS = """
const maths = nondecoupling;
return JSON.stringify(JSON.parse(arguments[0]).map(({logD, reward, beta, s, eta, target}) => {
    const tilt = maths.tilt(logD, reward, beta);
    const found = {
        tilt, gap: maths.couplingGap(logD, reward, beta), kl: maths.kl(logD, tilt),
        price: maths.priceOfReward(logD, reward, target),
        paid: maths.priceOfPolicy(logD, tilt, reward),
        leash: maths.forwardLeashOptimum(logD, reward, beta),
    };
    for (const after of ["sft", "rl", "half-rl"])
        found[after] = maths.alternationLimit(logD, reward, s, eta, after);
    return found;
}), (_, value) => typeof value === "number" ? String(value) : value)"""


def world(d, reward, beta=0.6, s=0.8, eta=0.5, share=0.5):
    """``share`` of the way from J(d) to max r lies the reward whose price is asked."""
    log_d = np.log(d) - np.log(np.sum(d))
    log_d -= np.logaddexp.reduce(log_d)
    mean = float(np.exp(log_d) @ np.array(reward))
    target = mean + share * (max(reward) - mean)
    return dict(
        logD=log_d.tolist(), reward=list(reward), beta=beta, s=s, eta=eta, target=target
    )  # fmt: skip


def drawn_worlds(count=60):
    rng = np.random.default_rng(21)
    return [
        world(
            rng.dirichlet(np.full(3, 0.7)) + 1e-6,
            rng.uniform(0, 3, 3).round(2).tolist(),
            float(np.exp(rng.uniform(np.log(0.05), np.log(20)))),
            float(np.exp(rng.uniform(np.log(0.01), np.log(20)))),
            float(rng.uniform(0.001, 0.999)),
            float(rng.uniform(0, 0.999)),
        )
        for _ in range(count)
    ]


def edges():
    laws = (0.5, 0.4, 0.1), (1, 1e-6, 1e-6), (0.5, 0.5, 1e-6), (1e-6, 1, 0.3)
    rewards = (1, 1, 1), (0, 0, 0), (0, 3, 3), (3, 3, 0), (0, 2, 3), (1, 1.05, 1)
    times = (0.05, 20, 0.99), (20, 5e-4, 0.01), (0.6, 1e-6, 1e-6), (0.05, 20, 1 - 1e-6)
    return [world(d, r, *t) for d, r, t in product(laws, rewards, times)]


def expected(given):
    log_d, reward = np.array(given["logD"]), np.array(given["reward"])
    beta, s, eta = given["beta"], given["s"], given["eta"]
    tilt = bounds.gibbs_tilt(log_d, reward, beta)
    return {
        "tilt": tilt,
        "gap": bounds.coupling_gap(log_d, reward, beta),
        "kl": bounds.kl_divergence(log_d, tilt),
        "price": bounds.price_of_reward(log_d, reward, given["target"]),
        "paid": bounds.price_of_policy(log_d, tilt, reward),
        "leash": bounds.forward_leash_optimum(log_d, reward, beta),
        **{after: bounds.alternation_limit(log_d, reward, s, eta, after) for after in STOPS},
    }


def disagreements(driver, worlds):
    """(number of the world, name) of every value in which the page and ``bounds`` differ."""
    found = json.loads(driver.execute_script(LAWS, json.dumps(worlds)))
    assert len(found) == len(worlds)
    return [
        (k, name, value, right.tolist())
        for k, values in enumerate(found)
        for name, right in expected(worlds[k]).items()
        for value in [np.array(values[name], dtype=float)]
        if not np.allclose(value, right, rtol=RELATIVE, atol=ABSOLUTE)
    ]


def opened(driver, folder, laws):
    (folder / "laws.js").write_text(laws)
    (folder / "page.html").write_text('<meta charset="utf-8"><script src="laws.js"></script>')
    driver.get((folder / "page.html").as_uri())


@pytest.mark.parametrize("worlds", [drawn_worlds, edges])
def test_the_laws_are_those_of_bounds(chromium, tmp_path, worlds):
    opened(chromium, tmp_path, (SITE / "sliders_laws.js").read_text())
    assert disagreements(chromium, worlds()) == []


FAULTS = {
    "tilt": ("log + reward[y] / beta)", "log + reward[y] * beta)"),
    "gap": ("(reward[y] - mean) / beta", "reward[y] / beta"),
    "kl": ("- (logQ[y] - log)", "+ (logQ[y] - log)"),
    "price": ("const missing = (u) => distance -", "const missing = (u) => 1.0001 * distance -"),
    "leash": ("const surplus = (u) => high +", "const surplus = (u) => high - 0.001 +"),
    "sft": ("1 - sftShare + Math.expm1", "1 - sftShare - Math.expm1"),
    "half-rl": ('"half-rl": 0.5', '"half-rl": 0.499'),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_wrong_law_is_seen(chromium, tmp_path, name):
    right, wrong = FAULTS[name]
    text = (SITE / "sliders_laws.js").read_text()
    assert text.count(right) == 1
    opened(chromium, tmp_path, text.replace(right, wrong))
    assert name in {found[1] for found in disagreements(chromium, drawn_worlds(20))}


# --- the page -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The page as the site has it, with its theme and menu, built alone."""
    pytest.importorskip("mkdocs", reason="the site needs it: make setup")
    from mkdocs.commands.build import build
    from mkdocs.config import load_config

    docs, site = tmp_path_factory.mktemp("docs"), tmp_path_factory.mktemp("a site")
    shutil.copy(ROOT / "docs" / "sliders.md", docs / "index.md")
    shutil.copytree(SITE, docs / "site")
    settings = dict(docs_dir=str(docs), site_dir=str(site), nav=None, plugins=["offline"])
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(SITE)  # as make docs does: the formulas' extension is there
        build(load_config(str(ROOT / "mkdocs.yml"), **settings))
    return site / "index.html"


PLACES = """
const ticks = name => [...document.querySelectorAll(`#sliders text.${name}`)]
    .filter(t => t.textContent !== "" && !isNaN(t.textContent))
    .map(t => [+t.textContent, +t.getAttribute(name === "at-x" ? "x" : "y")]);
const dot = name => {
    const at = document.querySelector(`#sliders svg.plane .at.${name}`).transform.baseVal[0].matrix;
    return [at.e, at.f];
};
const cells = name => [...document.querySelectorAll(`#sliders tr.${name} td`)].map(c => c.textContent);
const names = ["data", "tilt", "leash", "sft", "half"];
return {
    x: ticks("at-x"), y: ticks("at-y"),
    dots: Object.fromEntries(names.map(name => [name, dot(name)])),
    cells: Object.fromEntries(names.map(name => [name, cells(name)])),
    words: document.querySelector("#sliders .words").textContent,
}"""
MOVE = """
for (const [id, value] of Object.entries(arguments[0])) {
    const slider = document.getElementById(id);
    slider.value = value;
    slider.dispatchEvent(new Event("input", {bubbles: true}));
}"""
START = dict(
    weight1=-0.3, weight2=-0.4, weight3=-1, reward1=0, reward2=2, reward3=3, beta=-0.22, eta=0.5
)
MOVES = {
    "as it opens": {},
    "beta": {"beta": -0.5},
    "data": {"weight3": -2.5},
    "rewards": {"reward2": 0.5, "reward1": 1},
    "share": {"eta": 0.95},
    "tiny beta": {"beta": -1.3},
    "large beta": {"beta": 1.3},
    "rare best": {"weight3": -6, "beta": -1.3},
    "two equal best": {"reward2": 3},
    "equal rewards": {"reward1": 1, "reward2": 1, "reward3": 1},
}


def policies(at):
    """Reward, SFT loss above H(d) and least for that reward, of every policy that the page draws."""
    log_d = np.log(10) * np.array([at[f"weight{y}"] for y in (1, 2, 3)])
    log_d -= np.logaddexp.reduce(log_d)
    reward, beta, eta = np.array([at[f"reward{y}"] for y in (1, 2, 3)]), 10 ** at["beta"], at["eta"]
    reward = reward.astype(float)
    laws = {
        "data": log_d,
        "tilt": bounds.gibbs_tilt(log_d, reward, beta),
        "leash": bounds.forward_leash_optimum(log_d, reward, beta),
        "sft": bounds.alternation_limit(log_d, reward, eta / beta, eta, "sft"),
        "half": bounds.alternation_limit(log_d, reward, eta / beta, eta, "half-rl"),
    }
    return {
        name: (
            float(bounds.expected_reward(p, reward)),
            float(bounds.kl_divergence(log_d, p)),
            float(bounds.price_of_policy(log_d, p, reward)),
        )
        for name, p in laws.items()
    }


def place(ticks, value):
    """Where a value lies by the ticks beside it, in pixels."""
    (first, start), (last, end) = ticks[0], ticks[-1]
    return start + (end - start) * (value - first) / (last - first)


def wrong_places(shown, right):
    problems = []
    for name, (reward, loss, least) in right.items():
        # Text of a y tick stands four pixels below its line.
        there = place(shown["x"], reward), place(shown["y"], loss) - 4
        if np.abs(np.subtract(there, shown["dots"][name])).max() > 0.05:
            problems.append(f"{name} is drawn at {shown['dots'][name]}, not at {there}")
        *written, ratio = shown["cells"][name]
        for text, value in zip(written, (reward, loss, least), strict=True):
            # Four digits are written, three below a thousandth.
            if not np.isclose(float(text), value, rtol=6e-3 if value < 1e-3 else 6e-4, atol=1e-12):
                problems.append(f"{name}: {text} is written for {value}")
        if least < 1e-12:
            problems += [f"{name}: a ratio to zero"] * (ratio != "-")
        elif abs(float(ratio) - loss / least) > 1e-4 * loss / least:
            problems.append(f"{name}: {ratio} is written for {loss / least}")
    return problems


@pytest.mark.parametrize("move", MOVES)
def test_a_slider_moves_dots_and_table_to_the_numbers_of_bounds(chromium, page, move):
    chromium.get(page.as_uri())
    before = chromium.execute_script(PLACES)
    assert wrong_places(before, policies(START)) == []
    chromium.execute_script(MOVE, MOVES[move])
    after = chromium.execute_script(PLACES)
    right = policies({**START, **MOVES[move]})
    assert wrong_places(after, right) == []
    if MOVES[move]:
        assert after["dots"] != before["dots"]
        assert wrong_places(before, right) != []  # the comparison sees what has not moved
    assert ("All rewards are equal" in after["words"]) == (move == "equal rewards")
    assert ("two levels" in after["words"]) == (move == "two equal best")
    assert [e for e in chromium.get_log("browser") if e["level"] == "SEVERE"] == []


def test_sliders_answer_to_the_keyboard_and_say_their_values(chromium, page):
    from selenium.webdriver.common.keys import Keys

    chromium.get(page.as_uri())
    sliders = chromium.find_elements("css selector", "#sliders input")
    assert len(sliders) == len(START)
    for slider in sliders:
        name = slider.get_attribute("id")
        output = chromium.find_element("css selector", f"#sliders output[for={name}]")
        before = output.text, slider.get_attribute("value")
        slider.send_keys(Keys.ARROW_LEFT if name == "reward3" else Keys.ARROW_RIGHT)
        assert slider.get_attribute("value") != before[1]
        assert output.text == slider.get_attribute("aria-valuetext") != ""
        assert slider.accessible_name


@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_does_not_scroll_sideways(chromium, page, width):
    # A window cannot be as narrow as a phone; what the page sees can.
    size = dict(width=width, height=844, deviceScaleFactor=1, mobile=False)
    chromium.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    chromium.get(page.as_uri())
    wide = chromium.execute_script(
        "const e = document.documentElement; return [innerWidth, e.scrollWidth, e.clientWidth]"
    )
    chromium.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert wide[0] == width and wide[1] <= wide[2]
