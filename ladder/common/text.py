"""Owns what makes text of unknown origin, such as a name in another's study, safe to print."""

from __future__ import annotations

_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # a cell that begins so, a spreadsheet computes: it could call a program
_KEPT = "\u200c\u200d\u00a0\u2009\u202f\u3000"  # joiners within words of some scripts and in emoji; spaces
_BREAKS = "\n\r\t\v\f"


def printable(text: str) -> str:
    r"""The text on one line, with all that steers a terminal or hides written out: escapes, marks of order.

    >>> printable("\x1b[31mred"), printable("two\nlines"), printable("α β")
    ('\\x1b[31mred', 'two lines', 'α β')
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in _KEPT else " " if c in _BREAKS else ascii(c)[1:-1] for c in text)


def safe_cell(text: str) -> str:
    """Text for a cell of a CSV file: what a spreadsheet would take for a formula begins with an apostrophe.

    >>> safe_cell("=1+1"), safe_cell("gelu"), plain_cell(safe_cell("=1+1"))
    ("'=1+1", 'gelu', '=1+1')
    """
    return f"'{text}" if text.lstrip("'").startswith(_FORMULA) else text


def plain_cell(text: str) -> str:
    """What `safe_cell` was given."""
    return text[1:] if text.startswith("'") and text.lstrip("'").startswith(_FORMULA) else text
