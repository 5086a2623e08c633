"""Owns how text of unknown origin stays text in each format: nothing in it is markup, whatever a network is called.

Control characters are gone before (`ladder.common.text.printable`); HTML has `html.escape`, CSV `safe_cell` there.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

_MARKDOWN = re.compile(r"[\\`*|~<]|\[(?!\d+\])|(?<!\w)_|_(?!\w)|&(?=#?\w+;)")
_BLOCK = re.compile(r"^(\d+(?=[.)]\s)|(?=[#>+-]+\s))")


def markdown(text: str, start: bool = False) -> str:
    r"""Text in GitHub's Markdown. The marks of footnotes ([1]) stay as they are, since they are no link.

    `start`: it begins a paragraph or an item, where a number or a dash could begin a list.

    >>> markdown("a|b <i> [x](y) kernel_7 [1]"), markdown("- 1", start=True)
    ('a\\|b \\<i> \\[x](y) kernel_7 [1]', '\\- 1')
    """
    escaped = _MARKDOWN.sub(lambda found: f"\\{found[0]}", text)
    return _BLOCK.sub(lambda found: f"{found[0]}\\", escaped) if start else escaped


# ------------------------------------------------------------------------------------------------------------- LaTeX

_SIGNS = {
    **{"×": "times", "÷": "div", "·": "cdot", "∙": "cdot", "⋅": "cdot", "°": "circ", "∘": "circ", "∞": "infty"},
    **{"≤": "le", "≥": "ge", "≠": "ne", "≈": "approx", "≃": "simeq", "∼": "sim", "≡": "equiv", "∝": "propto"},
    **{"→": "rightarrow", "←": "leftarrow", "↔": "leftrightarrow", "↑": "uparrow", "↓": "downarrow"},
    **{"⇒": "Rightarrow", "⇐": "Leftarrow", "∈": "in", "∉": "notin", "⊂": "subset", "∪": "cup", "∩": "cap"},
    **{"∑": "sum", "∏": "prod", "∂": "partial", "∇": "nabla", "√": "surd", "∅": "emptyset", "¬": "neg", "±": "pm"},
    **{"⊕": "oplus", "⊗": "otimes", "⊙": "odot", "∧": "wedge", "∨": "vee", "∥": "parallel", "†": "dagger"},
    **{"★": "star", "✓": "surd", "✔": "surd", "✗": "times", "✘": "times", "•": "bullet", "∗": "ast", "∆": "Delta"},
    **{"ℓ": "ell", "~": "sim", "µ": "mu", "ς": "varsigma"},
}
_TEX = {
    **{"\\": "\\textbackslash{}", "^": "\\textasciicircum{}", "[": "{[}", "]": "{]}", "*": "{*}", "└": ""},
    **{c: f"\\{c}" for c in "&%$#_{}"},
    **{c: f"${c}$" for c in "<>|"},
    **{c: f"$\\{name}$" for c, name in _SIGNS.items()},
    **{c: f"$^{{{digit}}}$" for c, digit in zip("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ", "0123456789+-n", strict=True)},
    **{c: f"$_{{{digit}}}$" for c, digit in zip("₀₁₂₃₄₅₆₇₈₉₊₋", "0123456789+-", strict=True)},
    **{"–": "--", "—": "---", "−": "$-$", "‐": "-", "\u2011": "-", "…": "\\ldots{}", "‘": "`", "’": "'"},
    **{"“": "``", "”": "''", "„": "\\quotedblbase{}", "‚": "\\quotesinglbase{}", "‰": "\\textperthousand{}"},
    **{"€": "\\texteuro{}", "™": "\\texttrademark{}"},
    **{"\u00a0": "~", "\u2009": "\\,", "\u202f": "\\,", "\u3000": " ", "\u200c": "", "\u200d": ""},
}
_ACCENTS = dict(zip("\u0300\u0301\u0302\u0303\u0304\u0306\u0307\u0308\u030a\u030b\u030c", "`'^~=u.\"rHv", strict=True))
_ACCENTS |= dict(zip("\u0323\u0327\u0328\u0331", "dckb", strict=True))
_GREEK = re.compile(r"GREEK (SMALL|CAPITAL) LETTER (\w+)$")
_LIKE_LATIN = {  # capitals that LaTeX has no command for
    **{"ALPHA": "A", "BETA": "B", "EPSILON": "E", "ZETA": "Z", "ETA": "H", "IOTA": "I", "KAPPA": "K", "MU": "M"},
    **{"NU": "N", "OMICRON": "O", "RHO": "P", "TAU": "T", "CHI": "X"},
}


def tex(text: str) -> str:
    """Text in LaTeX, composed (NFC). Minus and plus before a digit are set as mathematics.

    Common signs, Greek and accented letters are written so that any TeX knows them. What is left is kept as it is:
    see `beyond_pdftex`.
    """
    escaped = "".join(_tex_of(c) for c in unicodedata.normalize("NFC", text))
    return re.sub(r"(^|(?<= ))([+-])(?=\d)", r"$\2$", escaped)


def beyond_pdftex(document: str) -> list[str]:
    """The characters in what `tex` made that pdfLaTeX does not know, each once. LuaLaTeX and XeLaTeX do."""
    return [c for c in dict.fromkeys(document) if not _in_t1(c)]


def _in_t1(c: str) -> bool:
    """Whether LaTeX's encoding T1 has the character: ASCII, Latin-1, and nearly all of Latin Extended-A."""
    return c.isascii() or (0xA1 <= ord(c) < 0x180 and c not in "ĦħĸĿŀŉŦŧſ")


@lru_cache(maxsize=1024)
def _tex_of(c: str) -> str:
    if c in _TEX or _in_t1(c):
        return _TEX.get(c, c)
    if found := _GREEK.match(unicodedata.name(c, "")):
        size, name = found[1], {"LAMDA": "LAMBDA"}.get(found[2], found[2])
        if size == "CAPITAL":
            return f"$\\mathrm{{{_LIKE_LATIN[name]}}}$" if name in _LIKE_LATIN else f"$\\{name.capitalize()}$"
        return "$o$" if name == "OMICRON" else f"$\\{name.lower()}$"
    base, marks = (parts := unicodedata.normalize("NFD", c))[0], parts[1:]
    if marks and base.isascii() and base.isalpha() and all(mark in _ACCENTS for mark in marks):
        for mark in marks:
            base = f"\\{_ACCENTS[mark]}{{{base}}}"
        return base
    return c
