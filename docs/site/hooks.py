"""What the site adds to the Markdown pages, at build time.

- Formulas (LaTeX between dollars) become MathML, so that a page needs no script to show them.
- A link to a file outside ``docs/`` leads to a page of the site with that file's text; if the link's
  text is a name that the file defines, to its line.
- The "How far it is assured" section of a statement begins with its rungs, from the ledger.
"""

from __future__ import annotations

import html
import logging
import posixpath
import re
from pathlib import Path
from xml.etree import ElementTree

from latex2mathml.converter import convert
from mkdocs.structure.files import File, Files

from nondecoupling.theory import ledger
from nondecoupling.theory.assurance import Assurance

ROOT = Path(__file__).parents[2]
SOURCES = "source"  # the folder of the site that holds the program text
LANGUAGE = {".py": "python", ".v": "coq", ".md": "markdown", ".txt": "text"}
ASSURED = "## How far it is assured\n"

log = logging.getLogger("mkdocs.hooks.nondecoupling")

# --- formulas ---------------------------------------------------------------------------------

FORMULA = re.compile(r'<(span|div) class="arithmatex">\\([(\[])(.*?)\\[)\]]</\1>', re.DOTALL)
MATHML = "http://www.w3.org/1998/Math/MathML"
FUNCTIONS = {"log", "exp", "max", "min", "sup", "inf", "cos", "lim"}
LIMITS_BELOW = {"max", "min", "sup", "inf", "lim"}
MINUS, CLOSING = "\N{MINUS SIGN}", (")", "]", "}", "|", "\N{DOUBLE VERTICAL LINE}")
THIN, WIDE = "0.167em", "0.5em"


def mathml(latex: str, *, block: bool) -> str:
    """MathML of a formula, with the spacing that TeX gives to its parts."""
    text = html.unescape(convert(latex, display="block" if block else "inline"))
    root = ElementTree.fromstring(text.replace("&", "&amp;").replace("<mo><</mo>", "<mo>&lt;</mo>"))
    if "\\" in "".join(root.itertext()):
        raise ValueError("a command that latex2mathml does not know")
    for element in root.iter():
        element.tag = element.tag.removeprefix(f"{{{MATHML}}}")
    polish(root, block)
    root.set("xmlns", MATHML)
    return ElementTree.tostring(root, encoding="unicode")


def polish(element: ElementTree.Element, block: bool) -> None:
    join_letters(element)
    children = list(element)
    for child in children:
        polish(child, block)
    if element.tag in ("msub", "msup", "msubsup") and children:
        base, last = children[0], children[-1]
        if block and element.tag == "msub" and base.text in LIMITS_BELOW:
            element.tag = "munder"
        if element.tag == "msup" and last.text == "\N{PRIME}":  # raised by its own shape already
            element.tag, last.tag = "mrow", "mo"
            last.attrib.update(lspace="0", rspace="0")
    for k, child in enumerate(children):
        before = children[k - 1] if k else None
        space(child, before, children[k + 1] if k + 1 < len(children) else None)


def join_letters(element: ElementTree.Element) -> None:
    """\\mathrm{KL} comes letter by letter: one identifier, which MathML sets upright."""
    word: ElementTree.Element | None = None
    for child in list(element):
        upright = child.tag == "mi" and child.get("mathvariant") == "normal"
        if upright and word is not None:
            word.text = f"{word.text}{child.text}"
            word.attrib.pop("mathvariant", None)
            element.remove(child)
        else:
            word = child if upright else None


def space(
    child: ElementTree.Element,
    before: ElementTree.Element | None,
    after: ElementTree.Element | None,
) -> None:
    core = child[0] if child.tag in ("msub", "msup", "munder") and len(child) else child
    if core.text in FUNCTIONS and core.tag in ("mi", "mo"):
        core.tag = "mo"
        opens = after is not None and after.tag == "mo" and (after.text or "") in "([{|"
        starts = before is None or before.tag == "mo"
        core.attrib.update(
            form="prefix", lspace="0" if starts else THIN, rspace="0" if opens else THIN
        )
    elif child.tag == "mo" and child.text == MINUS and before is not None and before.tag == "mo":
        if before.text not in CLOSING:  # a sign, not a difference
            child.attrib.update(form="prefix", lspace="0", rspace="0")
    elif child.tag == "mi" and child.text == ":":
        child.tag = "mo"
        child.attrib.update(lspace=THIN, rspace="0.28em")
    elif child.tag == "mo" and child.text in ("/", "|"):
        child.attrib.update(lspace="0", rspace="0")
    elif child.tag == "mo" and child.text == "\N{INFINITY}":
        child.tag = "mi"
    elif child.tag == "mi" and child.text in (
        "\N{LONG LEFT RIGHT DOUBLE ARROW}",
        "\N{LONG RIGHTWARDS DOUBLE ARROW}",
    ):
        child.tag = "mo"
        child.attrib.update(lspace=WIDE, rspace=WIDE)


def on_page_content(content: str, page, config, files) -> str:
    def formula(match: re.Match[str]) -> str:
        latex, block = html.unescape(match[3]).strip(), match[2] == "["
        try:
            rendered = mathml(latex, block=block)
        except Exception as error:  # latex2mathml raises many kinds
            log.warning("%s: %s in the formula %s", page.file.src_uri, type(error).__name__, latex)
            return match[0]
        # Formulas are no words: search leaves displayed ones out.
        return f'<div class="formula" data-search-exclude>{rendered}</div>' if block else rendered

    return NAMED.sub(to_line, FORMULA.sub(formula, content))


# --- program text -----------------------------------------------------------------------------

LINK = re.compile(r"(?<=\]\()(?!\w+:|#)([^)\s#]+)(?=\))")


def outside(target: str, page: str) -> str | None:
    """The path from the root of a link's target, if it is a file that is not below docs/."""
    path = posixpath.normpath(posixpath.join("docs", posixpath.dirname(page), target))
    return None if path.startswith(("docs/", "../")) or not (ROOT / path).is_file() else path


def on_files(files: Files, config) -> Files:
    wanted: set[str] = set()
    for file in files.documentation_pages():
        for target in LINK.findall(file.content_string):
            wanted.add(outside(target, file.src_uri) or "")
    for path in sorted(wanted - {""}):
        name = f"{SOURCES}/{path}.md"
        files.append(File.generated(config, name, content=as_page(path)))
    return files


def as_page(path: str) -> str:
    text = (ROOT / path).read_text()
    fence = "`" * 5
    language = LANGUAGE.get(posixpath.splitext(path)[1], "text")
    head = "---\nsearch:\n  exclude: true\nhide:\n  - toc\n---\n"
    return f'{head}# {path}\n\n{fence} {{ .{language} linenums="1" }}\n{text}\n{fence}\n'


def on_page_markdown(markdown: str, page, config, files) -> str:
    here = page.file.src_uri
    if here.startswith(f"{SOURCES}/"):
        return markdown

    def to_source(match: re.Match[str]) -> str:
        path = outside(match[1], here)
        if path is None:
            return match[0]
        return posixpath.relpath(f"{SOURCES}/{path}.md", posixpath.dirname(here) or ".")

    return LINK.sub(to_source, with_rungs(markdown, here))


NAMED = re.compile(rf'<a href="((?:\.\./)*{SOURCES}/([^"]+)\.html)"><code>(\w+)</code></a>')


def to_line(match: re.Match[str]) -> str:
    """A link to a source whose text is a name defined there: to the line of the definition."""
    url, path, name = match.groups()
    defined = re.compile(rf"^\s*(?:Theorem|Definition|Lemma|Corollary|def|class) {re.escape(name)}\b")
    for number, line in enumerate((ROOT / path).read_text().splitlines(), start=1):
        if defined.match(line):
            return match[0].replace(url, f"{url}#__codelineno-0-{number}")
    return match[0]


# --- the ledger -------------------------------------------------------------------------------


def with_rungs(markdown: str, page: str) -> str:
    """A theory page with the rungs of its statement, from the ledger of this release."""
    found = re.fullmatch(r"theory/([a-z]\d+)_\w+\.md", page)
    entry = ledger.load().get(found[1].upper()) if found else None
    if entry is None:
        return markdown
    cells = [("yes" if a.value in entry.rungs else "-") for a in Assurance]
    cells.append("yes" if entry.established else f"no: {entry.why_not}")
    header = [*(a.value for a in Assurance), "established"]
    rows = (header, ["---"] * len(header), cells)
    table = "\n".join("| " + " | ".join(row) + " |" for row in rows)
    return markdown.replace(ASSURED, f"{ASSURED}\n{table}\n", 1)
