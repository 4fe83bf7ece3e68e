"""Both reports in a real browser, from their path: no console errors, every plot visible, text in its place."""

import pytest
import qwen_validate
from browser import browser, problems

pytestmark = pytest.mark.slow  # whole runs, and a browser


@pytest.fixture(scope="module")
def chromium():
    with browser() as driver:
        yield driver


@pytest.fixture(scope="module")
def enumerated(tmp_path_factory, small):
    folder = tmp_path_factory.mktemp("enumerated") / "run"
    assert qwen_validate.main([*small, "--out", str(folder)]) == 0
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
    assert problems(chromium, page) == []
    text = chromium.find_element("tag name", "body").text
    assert "What this run does not show" in text
    assert "Predicted and observed" in text
    assert "{{" not in text and "None" not in text and "nan" not in text.split()
    # Wide tables scroll inside themselves; the page does not.
    assert chromium.execute_script(
        "return document.documentElement.scrollWidth <= document.documentElement.clientWidth"
    )


def test_details_of_the_enumerated_report_open(chromium, enumerated):
    problems(chromium, enumerated)
    details = chromium.find_elements("css selector", "details")
    assert len(details) == 2
    for one in details:
        one.find_element("css selector", "summary").click()
        assert one.find_element("css selector", "td").is_displayed()


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
