"""Both reports in a real browser, from their path: no console errors, every plot visible, text in its place."""

import pytest
import qwen_validate

from tests.browser import browser, problems

UNFOLD = "for (const one of document.querySelectorAll('details')) one.open = true"
pytestmark = pytest.mark.slow  # whole runs, and a browser


@pytest.fixture(scope="module")
def chromium():
    with browser() as driver:
        yield driver


@pytest.fixture(scope="module")
def enumerated(tmp_path_factory, small):
    folder = tmp_path_factory.mktemp("enumerated") / "run"
    assert qwen_validate.main([*small, "--warmup-steps", "8", "--out", str(folder)]) == 0
    return folder / "report.html"


@pytest.fixture(scope="module")
def sampled(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sampled") / "a folder with spaces"
    sizes = {"train-prompts": 200, "pilot-prompts": 20, "eval-prompts": 20, "responses": 4}
    sizes |= {"sft-steps": 20, "rl-steps": 4, "sft-batch": 16, "rl-prompts": 4, "generations": 4}
    words = [word for name, value in sizes.items() for word in (f"--{name}", str(value))]
    given = ["--protocol", "sampled", "--order", "cycle", *words, "--out", str(folder)]
    assert qwen_validate.main(given) == 0
    return folder / "report.html"


@pytest.mark.parametrize("name", ["enumerated", "sampled"])
def test_the_report_shows_everything(chromium, request, name):
    page = request.getfixturevalue(name)
    assert problems(chromium, page, UNFOLD) == []
    text = chromium.find_element("tag name", "body").text
    assert "What this run does not show" in text
    assert "Predicted and observed" in text
    assert "{{" not in text and "None" not in text and "nan" not in text.split()
    # Wide tables scroll inside themselves; the page does not.
    assert chromium.execute_script(
        "return document.documentElement.scrollWidth <= document.documentElement.clientWidth"
    )


@pytest.mark.parametrize("size", [(1280, 900), (390, 844)], ids=["desktop", "phone"])
@pytest.mark.parametrize("name", ["enumerated", "sampled"])
def test_the_first_screen_has_the_verdict_the_picture_and_the_figures(
    chromium, request, name, size
):
    chromium.set_window_size(*size)
    chromium.get(request.getfixturevalue(name).as_uri())
    height = chromium.execute_script("return innerHeight")
    first = [".verdict", ".first img", ".figures div"]
    for selector in first:
        place = chromium.find_element("css selector", selector).rect
        assert place["y"] >= 0 and place["y"] + place["height"] <= height, selector
    assert chromium.execute_script(
        "return document.documentElement.scrollWidth <= document.documentElement.clientWidth"
    )
    figures = chromium.find_elements("css selector", ".figures b")
    assert len(figures) == 5 and all(float(figure.text) > -1 for figure in figures)
    chromium.set_window_size(1200, 1600)


@pytest.mark.parametrize("name", ["enumerated", "sampled"])
def test_sections_unfold_from_the_contents_and_from_links(chromium, request, name):
    chromium.get(request.getfixturevalue(name).as_uri())
    sections = chromium.find_elements("css selector", "details.section")
    links = chromium.find_elements("css selector", "nav a")
    assert len(links) == len(sections) > 5
    for section, link in zip(sections, links, strict=True):
        assert section.get_attribute("open") is None
        chromium.execute_script("arguments[0].click()", link)
        assert section.get_attribute("open") is not None
    chromium.get(request.getfixturevalue(name).as_uri() + "#S7")
    assert chromium.find_element("id", "S7").is_displayed()


def test_a_click_on_a_head_sorts_the_table(chromium, enumerated):
    chromium.get(enumerated.as_uri() + "#checkpoints")
    table = chromium.find_element("css selector", "#checkpoints table")
    head = table.find_elements("css selector", "th")[2]
    assert head.text == "SFT loss"

    def column():
        return [float(td.text) for td in table.find_elements("css selector", "td:nth-child(3)")]

    before = column()
    head.click()
    assert column() == sorted(before) != before
    head.click()
    assert column() == sorted(before, reverse=True)
    assert head.get_attribute("aria-sort") == "descending"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("<img alt='gone' src='gone.png'>", "gone.png"),
        (
            "<img alt='dot' width=300 height=300 src='data:image/png;base64,AAAA'>",
            "'dot' is not visible",
        ),
        ("<p>no plot</p>", "no image"),
        ("<script>throw new Error('broken')</script>", "broken"),
    ],
)
def test_a_broken_page_is_noticed(chromium, tmp_path, body, words):
    page = tmp_path / "page.html"
    page.write_text(f"<!doctype html><html><body>{body}</body></html>")
    assert any(words in problem for problem in problems(chromium, page))
