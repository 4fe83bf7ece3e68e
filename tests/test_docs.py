"""The pages: theory pages are complete, links lead somewhere, code blocks run, figures are current.

What happens to a fenced block is decided by its language, here and nowhere else:

python    runs; the blocks of a page share one namespace, in order. With a ``title`` it is a file of the
          exercise in add_a_statement.md and runs there.
text      directly below a python block: its exact output, where ``...`` stands for anything.
          Elsewhere it is shown.
console   each ``$ nondecoupling ...`` runs and must succeed; what follows is its output, as above.
bash      shown only: it needs minutes, a network, a GPU or an installation.
(none)    shown only, except that lines which all start with ``nondecoupling`` run and must succeed.
"""

from __future__ import annotations

import contextlib
import doctest
import importlib.util
import inspect
import io
import itertools
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from nondecoupling import bounds
from nondecoupling.theory import catalog, ledger
from tests.command_line import invoke
from tests.statement_parts import half_finished

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
LANGUAGES = {"python", "text", "console", "bash", ""}
SECTIONS = [
    "Statement",
    "Hypotheses",
    "Proof",
    "Equality",
    "What it does not say",
    "Units",
    "Source",
    "How far it is assured",
    "Where",
]
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *DOCS.rglob("*.md")])


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def loaded(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"docs_{path.stem}", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# --- theory pages -----------------------------------------------------------------------------

LINK = re.compile(r"\[(?P<text>[^\]]*)\]\((?P<target>[^)\s]+)\)")


def links(text: str) -> Iterator[tuple[str, str, str]]:
    """(text, path, anchor) of the relative links outside code."""
    for match in LINK.finditer(re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)):
        if not re.match(r"\w+:", match["target"]):
            path, _, anchor = match["target"].partition("#")
            yield match["text"], path, anchor


def broken_links(docs: Path) -> list[str]:
    """Relative links to a file that does not exist; a docs folder stands in the place of docs/."""
    problems = []
    for page in sorted(docs.rglob("*.md")):
        where = page.relative_to(docs).parent
        for _, path, anchor in links(page.read_text()):
            full = os.path.normpath(Path("docs") / where / path)
            inside = full.startswith("docs" + os.sep)
            target = docs / Path(full).relative_to("docs") if inside else ROOT / full
            api = re.fullmatch(r"nondecoupling\.bounds\.(\w+)", anchor)
            if not (path == "" or target.exists()):
                problems.append(f"{page.name}: {path} does not exist")
            elif api and not hasattr(bounds, api[1]):
                problems.append(f"{page.name}: bounds has no {api[1]}")
    return problems


def functions_by_source() -> dict[str, set[str]]:
    """Statement id -> functions of bounds whose docstring names it as their source."""
    found: dict[str, set[str]] = {}
    for name in bounds.__all__:
        text = " ".join((inspect.getdoc(getattr(bounds, name)) or "").split())
        source = re.search(r"Source: ([^>]*)", text)
        for id_ in re.findall(r"\b[A-Z]\d+\b", source[1] if source else ""):
            found.setdefault(id_, set()).add(name)
    assert {"S2", "S5", "R1"} <= set(found)
    return found


def rocq_theorems(id_: str) -> set[str]:
    names = (ROOT / "proofs/rocq/headline.txt").read_text().splitlines()
    return {name for name in names if name.startswith(f"{id_}_")}


POLICIES = "| the statement is about | statements |\n| --- | --- |\n"
OPTIMUM = "the exact optimum itself, of RL or of joint training"


def listed_as(overview: str) -> dict[str, set[str]]:
    """Statement id -> which policies it is about, by the table of theory/index.md."""
    found: dict[str, set[str]] = {}
    table = overview.partition(POLICIES)[2].partition("\n\n")[0]
    for about, listed in re.findall(r"^\| (.*?) \| (.*) \|$", table, flags=re.MULTILINE):
        for id_ in re.findall(r"\[(\w\d+)\]", listed):
            found.setdefault(id_, set()).add(about)
    return found


def theory_problems(docs: Path) -> list[str]:
    """What is wrong with the pages in docs/theory, as lines that name the page."""
    stems = {catalog.stem(s): s for s in catalog.statements().values()}
    pages = {page.stem: page.read_text() for page in (docs / "theory").glob("*.md")}
    problems = [f"{stem}: no such statement" for stem in set(pages) - set(stems) - {"index"}]
    ledger_page = (docs / "ledger.md").read_text()
    for stem, statement in stems.items():
        text = pages.get(stem)
        if text is None:
            continue
        say = f"{stem}: ".__add__
        if text.splitlines()[0] != f"# {statement.id} {statement.title}":
            problems.append(say("the title is not the one of the code"))
        if f"\n| [{statement.id}]({stem}.md) | {statement.title} |" not in pages["index"]:
            problems.append(say("theory/index.md has no row with this title"))
        about = listed_as(pages["index"]).get(statement.id)
        if about is None:
            problems.append(say("theory/index.md does not say which policies it is about"))
        elif about == {OPTIMUM} and "log_p" in statement.world:
            problems.append(say("is about log_p, by theory/index.md about the optimum alone"))
        if re.findall(r"^## (.*)", text, flags=re.MULTILINE) != SECTIONS:
            problems.append(say(f"the sections are not {', '.join(SECTIONS)}"))
            continue
        parts = dict(
            zip(SECTIONS, re.split(r"^## .*\n", text, flags=re.MULTILINE)[1:], strict=True)
        )
        problems += [say(f"{k} is empty") for k, part in parts.items() if not part.strip()]
        if "NBHZ" in text and "abstract" not in text:
            problems.append(
                say("cites [NBHZ] without saying that its abstracts are all that is known")
            )
        where = list(links(parts["Where"]))
        for path in (f"nondecoupling/theory/theorems/{stem}.py", f"proofs/test_{stem}.py"):
            if f"../../{path}" not in {target for _, target, _ in where}:
                problems.append(say(f"Where does not link {path}"))
        linked = {anchor.rpartition(".")[2] for _, path, anchor in where if "api/bounds" in path}
        if not functions_by_source().get(statement.id, set()) <= linked:
            problems.append(say("Where lacks a function of bounds that names it as its source"))
        theorems = {text.strip("`") for text, path, _ in where if path.endswith("Statements.v")}
        if theorems != rocq_theorems(statement.id):
            problems.append(say("the Rocq theorems are not those of headline.txt"))
        rests = re.search(r"^- Rests on: (.*)", parts["Where"], flags=re.MULTILINE)
        if not rests or tuple(re.findall(r"\[(\w\d+)\]", rests[1])) != statement.depends:
            problems.append(say("what it rests on is not what the code says"))
        anchors = [anchor for _, path, anchor in where if path.endswith("ledger.md")]
        if anchors != [heading_anchor(f"{statement.id} {statement.title}")]:
            problems.append(say("no link to its entry in the ledger"))
        elif f"### {statement.id} {statement.title}\n" not in ledger_page:
            problems.append(say("the ledger has no entry with this title"))
    return problems


def heading_anchor(heading: str) -> str:
    return re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", heading.lower()).strip())


def test_the_pages_of_statements_are_complete():
    assert theory_problems(DOCS) == []


def test_links_lead_somewhere():
    assert broken_links(DOCS) == []


@pytest.fixture
def copy_of_docs(tmp_path):
    return Path(shutil.copytree(DOCS, tmp_path / "docs"))


S2 = "theory/s2_coupling_at_sft_optimality.md"
BROKEN_PAGES = [
    (S2, "# S2 Coupling at", "# S2 The coupling at", "title"),
    (S2, "## Equality\n", "", "sections"),
    (S2, "## Units\n\nNats per response.\n", "## Units\n\n", "Units is empty"),
    (S2, "abstracts only", "heart", "NBHZ"),
    (S2, "proofs/test_s2", "proofs/test_s3", "proofs/test_s2"),
    (S2, "#nondecoupling.bounds.coupling_gap)", "#nondecoupling.bounds.entropy)", "function"),
    (S2, "`S2_coupling_gap`", "`S2_coupling_gaps`", "Rocq"),
    (S2, "[F1](f1_gibbs_inequality.md), [S1]", "[S1]", "rests on"),
    (S2, "ledger.md#s2-", "ledger.md#s3-", "ledger"),
    ("theory/index.md", "| [S2](s2_", "| [S3](s2_", "theory/index.md has no row"),
    ("theory/index.md", "[S2](s2_coupling_at_sft_optimality.md), ", "", "which policies"),
    ("ledger.md", "### S2 Coupling", "### S2 coupling", "ledger"),
]


@pytest.mark.parametrize(("page", "old", "new", "named"), BROKEN_PAGES)
def test_a_broken_theory_page_is_seen(page, old, new, named, copy_of_docs):
    text = (copy_of_docs / page).read_text()
    assert old in text
    (copy_of_docs / page).write_text(text.replace(old, new))
    (problem,) = set(theory_problems(copy_of_docs)) - set(theory_problems(DOCS))
    assert problem.startswith("s2_") and named in problem


def test_a_statement_on_any_policy_listed_for_the_optimum_alone_is_seen(copy_of_docs):
    page = copy_of_docs / "theory/index.md"
    s10 = "[S10](s10_what_a_run_proves.md), "
    elsewhere = page.read_text().replace(s10, "")
    page.write_text(elsewhere.replace(f"| {OPTIMUM} | ", f"| {OPTIMUM} | {s10}"))
    (problem,) = theory_problems(copy_of_docs)
    assert problem.startswith("s10_") and "optimum alone" in problem


def test_a_missing_and_a_superfluous_page_are_seen(copy_of_docs):
    (copy_of_docs / S2).rename(copy_of_docs / "theory/s9_no_such_statement.md")
    problems = theory_problems(copy_of_docs)
    assert "s9_no_such_statement: no such statement" in problems
    assert any(
        "s2_coupling_at_sft_optimality.md does not exist" in p for p in broken_links(copy_of_docs)
    )


def test_a_broken_link_is_seen(copy_of_docs):
    page = copy_of_docs / S2
    page.write_text(
        page.read_text()
        + "[a](../../nondecoupling/no.py) [b](../api/bounds.md#nondecoupling.bounds.no)"
    )
    assert broken_links(copy_of_docs) == [
        f"{page.name}: ../../nondecoupling/no.py does not exist",
        f"{page.name}: bounds has no no",
    ]


# --- code blocks ------------------------------------------------------------------------------


@dataclass
class Block:
    language: str
    title: str
    body: str
    line: int
    follows: bool  # directly below the block before it


def blocks(text: str) -> list[Block]:
    fence = re.compile(r"^(`{3,})([^\n`]*)\n(.*?)^\1[ ]*$", re.DOTALL | re.MULTILINE)
    found, end = [], 0
    for match in fence.finditer(text):
        info = match[2].strip()
        title = re.search(r'title="([^"]+)"', info)
        found.append(
            Block(
                info.split()[0] if info else "",
                title[1] if title else "",
                match[3],
                text[: match.start()].count("\n") + 1,
                bool(found) and not text[end : match.start()].strip(),
            )
        )
        end = match.end()
    return found


def same_output(want: str, got: str) -> bool:
    def lines(text: str) -> str:
        return "".join(f"{line.rstrip()}\n" for line in text.strip("\n").splitlines())

    return doctest.OutputChecker().check_output(lines(want), lines(got), doctest.ELLIPSIS)


def run_command(line: str) -> str:
    """The output of a ``nondecoupling`` command, which must succeed."""
    name, *arguments = shlex.split(line, comments=True)
    assert name == "nondecoupling", f"$ {name}: only nondecoupling runs here; use a bash block"
    result = invoke(*arguments)
    assert result.exit_code == 0, f"$ {line}\nleft with {result.exit_code}: {result.output}"
    return result.output


def run_blocks(text: str) -> list[str]:
    """Runs the blocks of a page; returns what differs from what the page says."""
    problems: list[str] = []
    namespace: dict[str, object] = {}
    printed: str | None = None

    def differs(line: int, want: str, got: str) -> None:
        if not same_output(want, got):
            problems.append(f"line {line}: expected\n{want}\ngot\n{got}")

    for block in blocks(text):
        before, printed = printed, None
        if block.language not in LANGUAGES:
            problems.append(
                f"line {block.line}: language {block.language!r}, not one of {LANGUAGES}"
            )
        elif block.language == "python" and not block.title:
            output = io.StringIO()
            with contextlib.redirect_stdout(output):
                exec(compile(block.body, f"<line {block.line}>", "exec"), namespace)
            printed = output.getvalue()
        elif block.language == "text" and block.follows and before is not None:
            differs(block.line, block.body, before)
        elif block.language == "console":
            for part in re.split(r"^\$ ", block.body, flags=re.MULTILINE)[1:]:
                command, _, want = part.partition("\n")
                differs(block.line, want, run_command(command))
        elif block.language == "":
            lines = block.body.splitlines()
            if lines and all(line.startswith("nondecoupling ") for line in lines):
                for line in lines:
                    run_command(line)
    return problems


def by_page(page):
    slow = (
        [pytest.mark.slow] if name_of(page) == "docs/refuted.md" else []
    )  # searches for witnesses
    return pytest.param(page, id=name_of(page), marks=slow)


@pytest.mark.parametrize("page", [by_page(p) for p in PAGES if blocks(p.read_text())])
def test_code_blocks(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run_blocks(page.read_text()) == []


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("```python\nprint(1)\n```\n```text\n2\n```\n", "expected\n2"),
        ("```python\nx = 1\n```\n\n```python\nprint(x)\n```\n```text\n2...\n```\n", "got\n1"),
        ("```console\n$ nondecoupling --version\nnondecoupling 0\n```\n", "nondecoupling 0\n"),
        ("```pyhton\nx\n```\n", "language 'pyhton'"),
    ],
)
def test_a_block_that_lies_is_seen(text, named):
    (problem,) = run_blocks(text)
    assert named in problem


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("```python\nassert False\n```\n", AssertionError),
        ("```console\n$ nondecoupling show X9\n```\n", AssertionError),
        ("```console\n$ rm -r folder\n```\n", AssertionError),
        ("```\nnondecoupling show X9\n```\n", AssertionError),
    ],
)
def test_a_block_that_fails_is_seen(text, error):
    with pytest.raises(error):
        run_blocks(text)


def test_what_is_only_shown_does_not_run():
    assert run_blocks("```bash\nexit 1\n```\n```\na layout\n```\n```text\nwords\n```\n") == []


# --- add_a_statement.md -----------------------------------------------------------------------


@pytest.mark.slow  # runs the exercise in a copy of the package
def test_the_statement_of_the_exercise_is_found_and_proved(tmp_path):
    """The page's files, added to a copy of the package."""
    ignored = shutil.ignore_patterns("__pycache__")
    for folder in ("nondecoupling", "proofs"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=ignored)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    files = [b for b in blocks((DOCS / "add_a_statement.md").read_text()) if b.title]
    for block in files:
        (tmp_path / block.title).write_text(block.body)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    proof = [sys.executable, "-m", "pytest", "-q", "--doctest-modules", *(b.title for b in files)]
    show = [sys.executable, "-c", "from nondecoupling.cli import main; main()", "show", "I2"]
    for command, expected in ((proof, "8 passed"), (show, "Two rounds of RL are one")):
        run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert run.returncode == 0 and expected in run.stdout, run.stdout + run.stderr


# --- figures ----------------------------------------------------------------------------------

NUMBER = re.compile(r"-?\d+\.?\d*(?:e-?\d+)?")


def figure_problems(figures: ModuleType, name: str, drawn: Path, fresh: Path) -> list[str]:
    """How a committed figure differs from the one that its script draws now."""
    problems = []
    old, new = figures.written_numbers(drawn), figures.draw(name)[0]
    flat_old, flat_new = (list(flattened(x)) for x in (old, json.loads(json.dumps(new))))
    labels = [[x for x in flat if isinstance(x, str)] for flat in (flat_old, flat_new)]
    values = [[x for x in flat if not isinstance(x, str)] for flat in (flat_old, flat_new)]
    if labels[0] != labels[1] or len(values[0]) != len(values[1]):
        problems.append("other quantities")
    elif not np.allclose(*values, rtol=1e-6, atol=1e-9):
        problems.append("other numbers")
    figures.write(name, fresh)
    before, after = drawn.read_text(), fresh.read_text()
    if NUMBER.sub("#", before) != NUMBER.sub("#", after) or not np.allclose(
        *([float(x) for x in NUMBER.findall(text)] for text in (before, after)), atol=0.01
    ):
        problems.append("another drawing")
    return problems


def flattened(value: object) -> Iterator[object]:
    if isinstance(value, dict):
        yield from itertools.chain.from_iterable(map(flattened, itertools.chain(*value.items())))
    elif isinstance(value, list):
        yield from itertools.chain.from_iterable(map(flattened, value))
    else:
        yield value


@pytest.fixture(scope="module")
def figures():
    pytest.importorskip("matplotlib", reason="figures need it: pip install nondecoupling[plot]")
    return loaded(DOCS / "figures" / "figures.py")


@pytest.mark.slow  # draws them anew
@pytest.mark.parametrize("name", ["frontier", "simplex", "dependencies", "trainers", "schedules"])
def test_figures_are_current(name, figures, tmp_path):
    assert figure_problems(figures, name, DOCS / f"figures/{name}.svg", tmp_path / "new.svg") == []


# Copies of what a committed run drew.
FROM_RESULTS = {
    "recipes_in_a_network": "comparison/comparison.svg",
    "cola": "smollm2-135m-cola/figures.svg",
    "cola_rl_first": "smollm2-135m-cola-rl-first/figures.svg",
    "cola_gemma": "gemma3-270m-cola/figures.svg",
    "cola_gemma_rl_first": "gemma3-270m-cola-rl-first/figures.svg",
    "cola_grpo": "smollm2-135m-cola-grpo/figures.svg",
    "fineness": "comparison-natural/fineness.svg",
}


def test_every_figure_has_a_script(figures):
    drawn = {p.stem for p in (DOCS / "figures").glob("*.svg")}
    assert drawn == {*figures.FIGURES, *FROM_RESULTS}
    for name, result in FROM_RESULTS.items():
        original = ROOT / "experiments/results" / result
        assert (DOCS / f"figures/{name}.svg").read_bytes() == original.read_bytes()


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        (r'reward of the tilt":\[\[0', r'reward of the tilt":[[1', "other numbers"),
        (r'reward of the tilt"', r'reward of ref"', "other quantities"),
        (r"<path d=.M \d+", r'<path d="M 999', "another drawing"),
    ],
)
def test_an_old_figure_is_seen(old, new, named, figures, tmp_path):
    text = (DOCS / "figures/simplex.svg").read_text()
    changed, count = re.subn(old, new, text, count=1)
    assert count == 1
    (tmp_path / "old.svg").write_text(changed)
    problems = figure_problems(figures, "simplex", tmp_path / "old.svg", tmp_path / "new.svg")
    assert named in problems


# --- the site ---------------------------------------------------------------------------------


class Loaded(HTMLParser):
    """What a page of the site loads, and whether a formula was left as LaTeX."""

    def __init__(self) -> None:
        super().__init__()
        self.urls: list[str] = []
        self.formulas = 0
        self.left_over = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        url = values.get("href") if tag == "link" else values.get("src")
        self.urls += [url] if url else []
        self.formulas += tag == "math"
        self.left_over += "arithmatex" in (values.get("class") or "")


def site_problems(site: Path) -> list[str]:
    problems = []
    for page in site.rglob("*.html"):
        seen = Loaded()
        seen.feed(page.read_text())
        name = page.relative_to(site).as_posix()
        problems += [f"{name} loads {u}" for u in seen.urls if re.match(r"(\w+:)?//", u)]
        problems += [f"{name}: a formula is not rendered"] * bool(seen.left_over)
        theory = name.startswith("theory/")
        problems += [f"{name}: no formula"] * (theory and not seen.formulas)
    for sheet in site.rglob("*.css"):
        if re.search(r"url\(.?(https?:)?//|@import", sheet.read_text()):
            problems.append(f"{sheet.name} loads from a network")
    return problems


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    pytest.importorskip("mkdocs", reason="the site needs it: make setup")
    folder, pages = tmp_path_factory.mktemp("site"), tmp_path_factory.mktemp("docs") / "pages"
    assert loaded(DOCS / "site" / "prepare.py").prepare(DOCS, pages) == []
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    path = os.pathsep.join([str(DOCS / "site"), str(ROOT)])
    environment = {"PYTHONPATH": path, "SITE_PAGES": str(pages), "NO_MKDOCS_2_WARNING": "1"}
    environment = {**os.environ, **environment}
    run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return folder


@pytest.mark.slow  # builds the site
def test_the_site_builds_and_loads_nothing_from_a_network(site):
    assert (site / "index.html").exists()
    assert site_problems(site) == []


@pytest.mark.slow  # builds the site
def test_every_theory_page_is_in_the_navigation(site):
    overview = (site / "theory" / "index.html").read_text()
    missing = [
        s.id for s in catalog.statements().values()
        if catalog.stem(s) not in half_finished()
        and f'<a href="{catalog.stem(s)}.html" class="md-nav__link"' not in overview
    ]  # fmt: skip
    assert missing == []


@pytest.mark.slow  # builds the site
def test_a_theorem_is_linked_to_the_line_that_states_it(site):
    page = (site / S2).with_suffix(".html").read_text()
    (target,) = re.findall(r'href="\.\./(source\S+)#(\w+\S*)"><code>S2_coupling_gap</code>', page)
    text = (site / target[0]).read_text()
    line = text[text.index(f'id="{target[1]}"') :].partition("\n")[0]
    assert "S2_coupling_gap" in re.sub("<[^>]*>", "", line)


def test_a_page_that_loads_something_is_seen(tmp_path):
    text = '<script src="https://a.org/b.js"></script><span class="arithmatex">\\(x\\)</span>'
    (tmp_path / "a.html").write_text(text)
    (tmp_path / "a.css").write_text('@import "b.css";')
    assert site_problems(tmp_path) == [
        "a.html loads https://a.org/b.js",
        "a.html: a formula is not rendered",
        "a.css loads from a network",
    ]


# --- how the site is made ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def mathml():
    pytest.importorskip("latex2mathml")
    return loaded(DOCS / "site" / "mathml.py")


def test_formulas(mathml):
    word = mathml.mathml(r"\mathrm{KL}(p\,\Vert\,q)\ge0", block=False)
    assert "<mi>KL</mi>" in word
    assert "<munder><mo" in mathml.mathml(r"\max_{p} \log x < 1", block=True)
    assert '<mo lspace="0" rspace="0">/</mo>' in mathml.mathml("r/2", block=False)
    assert 'form="prefix"' in mathml.mathml("a=-b", block=False)
    assert 'form="prefix"' not in mathml.mathml("f(a)-b", block=False)
    with pytest.raises(ValueError, match="does not know"):
        mathml.mathml(r"\nonsense x", block=False)


@pytest.fixture(scope="module")
def convert(mathml):
    """Markdown to HTML, as the site does it."""
    markdown = pytest.importorskip("markdown")
    arithmatex = pytest.importorskip("pymdownx.arithmatex").ArithmatexExtension(generic=True)
    return markdown.Markdown(extensions=["tables", "toc", arithmatex, mathml.MathML()]).convert


def test_formulas_of_a_page(convert):
    page = convert(
        "# Of $a$\n\nIf $x<1$:\n\n$$\ny\n$$\n\n`$c$`\n\n| $d$ | e |\n|--|--|\n| $f$ | g |"
    )
    assert "arithmatex" not in page
    assert page.count("<math") == 5 and "<mo>&lt;</mo>" in page
    assert "<code>$c$</code>" in page
    # Only the displayed one is left out of the search.
    assert page.count("data-search-exclude") == 1
    assert '<div class="formula" data-search-exclude><math display="block"' in page


def test_a_broken_formula_ends_the_build(convert):
    with pytest.raises(ValueError, match=r"the formula \\nonsense x does not become MathML"):
        convert(r"Let $\nonsense x$ be.")


@pytest.fixture(scope="module")
def prepare():
    return loaded(DOCS / "site" / "prepare.py")


def test_what_the_site_is_built_from(prepare, tmp_path):
    docs = tmp_path / "docs"
    shutil.copytree(DOCS / "site", docs / "site")
    (docs / "site" / "some.js").write_text("1")
    stem = catalog.stem(catalog.statement("S2"))
    (docs / "theory").mkdir()
    page = (
        "[`S2_coupling_gap`](../../proofs/rocq/Statements.v) [Statements.v](../../proofs/rocq/Statements.v) "
        "[`nothing`](../../proofs/rocq/Statements.v) [`a`](a.md) [b](https://b.org)\n\n"
    )
    (docs / "theory" / f"{stem}.md").write_text(f"{page}{prepare.ASSURED}")
    assert prepare.prepare(docs, tmp_path / "pages") == []
    assert {p.name for p in (tmp_path / "pages/site").iterdir()} >= {"style.css", "some.js"}
    assert list(tmp_path.glob("pages/**/*.py")) == []
    made = (tmp_path / f"pages/theory/{stem}.md").read_text()
    trusted = ROOT / "proofs/rocq/Statements.v"
    lines = trusted.read_text().splitlines()
    line = 1 + [x.startswith("Definition S2_coupling_gap") for x in lines].index(True)
    assert made.startswith(
        f'<a href="../source/proofs/rocq/Statements.v.html#__codelineno-0-{line}"><code>S2_coupling_gap</code></a> '
        "[Statements.v](../source/proofs/rocq/Statements.v.md) [`nothing`](../source/proofs/rocq/Statements.v.md) "
        "[`a`](a.md) [b](https://b.org)\n\n## How far it is assured\n\n| "
    )
    source = (tmp_path / "pages/source/proofs/rocq/Statements.v.md").read_text()
    assert trusted.read_text() in source
    assert "search:\n  exclude: true\n" in source.partition("# proofs")[0]


def test_a_link_to_no_file_is_seen(prepare, tmp_path):
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs/a.md").write_text("[a](../nondecoupling/no.py) [`b`](../../b.py)")
    assert prepare.prepare(tmp_path / "docs", tmp_path / "pages") == [
        "a.md: no file ../b.py",
        "a.md: no file nondecoupling/no.py",
    ]


def test_rungs_come_from_the_ledger(prepare):
    stem = catalog.stem(catalog.statement("S2"))
    page = f"a\n\n{prepare.ASSURED}\nWords.\n"
    shown = prepare.with_rungs(page, f"theory/{stem}.md")
    row = [line for line in shown.splitlines() if line.startswith("| yes")]
    assert row and row[0].count("yes") == len(ledger.load()["S2"].rungs) + 1
    assert prepare.with_rungs(page, "bounds.md") == page


def test_docstrings_become_markdown():
    pytest.importorskip("griffe")
    convert = loaded(DOCS / "site" / "docstrings.py").as_markdown
    assert convert("A.\n\n>>> 1\n1\n\nB.") == "A.\n\n\n```pycon\n>>> 1\n1\n```\n\nB."
    s5 = "[S5](../theory/s5_price_of_reward.md)"
    assert convert("K. Source: S5,\nH99.\n\nS5") == f"K. Source: {s5},\nH99.\n\nS5"
    assert convert("-<p - d> at `y_<t`, x < 1") == "-&lt;p - d> at `y_<t`, x < 1"
