"""Numbers in words, as plain decimal notation."""

from __future__ import annotations

import math
import re
from fractions import Fraction

_UNITS = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen"
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
WORD_VALUES = {word: index for index, word in enumerate(_UNITS.split())} | {
    word: 20 + 10 * i for i, word in enumerate(_TENS.split())
}
_WORD = "|".join(sorted(WORD_VALUES, key=len, reverse=True))
NUMBER = re.compile(
    r"\\[dt]?frac ?\{? ?(-?\d{1,12}) ?\}? ?\{ ?(\d{1,12}) ?\}"  # \frac{1}{2}
    r"|(?<![\w.])(-?\d{1,12})/(\d{1,12})(?![\d/])"  # 1/2
    r"|(-?(?:\d{1,3}(?:,\d{3}){1,6}|\d{1,40})(?:\.\d{1,40})?|-?\.\d{1,40})(?: ?[x\u00d7] ?10\^?\{?(-?\d{1,3})\}?)?(?![\d])"
    rf"|\b((?:{_WORD})(?:-(?:{_WORD}))?)\b",
    re.IGNORECASE,
)
_ROOT = re.compile(
    r"(?:\w=)?(?P<sign>-?)(?P<factor>\d{1,9}(?:\.\d{1,9})?)?(?:√\(?(?P<under>\d{1,9})\)?|(?P<pi>π))(?:/(?P<below>\d{1,9}))?[A-Za-z]{0,6}[²³]?"
)


def numbers(text: str) -> list[tuple[str, int, int]]:
    """(value in plain notation, start, end) of each number in `text`."""
    found = []
    for match in NUMBER.finditer(text):
        value = _value(match)
        if value is not None:
            found.append((value, match.start(), match.end()))
    return found


def with_root(text: str) -> str | None:
    """The value of a text that is one product with a root or pi: `2√3`, `-√2/2`, `5π`, `x = 3π/4`; None for
    any other."""
    match = _ROOT.fullmatch("".join(text.split()).strip(".$"))
    if match is None:
        return None
    factor = float(match["factor"] or 1) * (-1 if match["sign"] else 1)
    base = math.pi if match["pi"] else math.sqrt(float(match["under"]))
    below = float(match["below"] or 1)
    return None if below == 0 else tidy(f"{factor * base / below:.12f}".rstrip("0"))


def _value(match: re.Match[str]) -> str | None:
    if match[1] or match[3]:
        above, below = (match[1], match[2]) if match[1] else (match[3], match[4])
        return None if int(below) == 0 else decimal(Fraction(int(above), int(below)))
    if match[7]:
        return str(sum(WORD_VALUES[part] for part in match[7].lower().split("-")))
    digits = match[5].replace(",", "")
    if match[6] and abs(int(match[6])) <= 40:
        return decimal(Fraction(digits) * Fraction(10) ** int(match[6]))
    return tidy(digits)


def decimal(value: Fraction) -> str:
    """A fraction as a decimal of at most twelve digits after the point."""
    if value.denominator == 1:
        return str(value.numerator)
    return tidy(f"{float(value):.12f}".rstrip("0"))


def tidy(digits: str) -> str:
    """`-.50` as `-0.50`, `007` as `7`."""
    sign = "-" if digits.startswith("-") else ""
    whole, point, rest = digits.lstrip("-").partition(".")
    return sign + (whole.lstrip("0") or "0") + (point + rest if rest else "")
