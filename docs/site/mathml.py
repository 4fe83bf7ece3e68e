"""Formulas of the site as MathML, so that a page needs no script to show them: a Python-Markdown extension.

``pymdownx.arithmatex`` finds the LaTeX between dollars; what it leaves in the page becomes MathML here.
A formula that cannot be converted ends the build, which names the page.
"""

from __future__ import annotations

import html
import re
from xml.etree import ElementTree

from latex2mathml.converter import convert
from markdown import Extension, Markdown
from markdown.postprocessors import Postprocessor

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


# --- the extension ----------------------------------------------------------------------------


def formula(match: re.Match[str]) -> str:
    latex, block = html.unescape(match[3]).strip(), match[2] == "["
    try:
        rendered = mathml(latex, block=block)
    except Exception as error:  # latex2mathml raises many kinds
        raise ValueError(f"the formula {latex} does not become MathML: {error!r}") from error
    # Formulas are no words: search leaves displayed ones out.
    return f'<div class="formula" data-search-exclude>{rendered}</div>' if block else rendered


class Formulas(Postprocessor):
    def run(self, text: str) -> str:
        return FORMULA.sub(formula, text)


class MathML(Extension):
    """Named in ``mkdocs.yml`` as ``mathml:MathML``."""

    def extendMarkdown(self, md: Markdown) -> None:
        # After Markdown's own steps, the last of which has priority 10.
        md.postprocessors.register(Formulas(md), "mathml", 0)
