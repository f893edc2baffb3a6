"""What a phrase is worth: the one number it is, and whether two phrases are equal. LaTeX goes to math-verify.

Where one number is asked, an expression with a variable, a ratio, a set, a pair or plus-minus is none.
"""

from __future__ import annotations

import logging
import math
import re
import threading
from fractions import Fraction
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from harness.scoring.text import plain, without_latex

if TYPE_CHECKING:
    import sympy

_SMALL = """zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen
            sixteen seventeen eighteen nineteen"""
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
WORDS = {word: index for index, word in enumerate(_SMALL.split())}
WORDS |= {word: 20 + 10 * index for index, word in enumerate(_TENS.split())}
_WORD = "|".join(sorted(WORDS, key=len, reverse=True))
_DIGITS = r"(?:\d{1,3}(?:,\d{3}){1,6}|\d{1,40})(?:\.\d{1,40})?|\.\d{1,40}"
NUMBER = re.compile(
    r"(?i)(?<![\w.])(?P<whole>-?\d{1,9} )?(?P<above>-?\d{1,12}) ?/ ?(?P<below>\d{1,12})(?![\d/])"  # 1 1/2
    rf"|(?P<decimal>-?(?:{_DIGITS}))"
    rf"(?: ?[x\u00d7] ?10\^?(?P<power>-?\d{{1,3}})|e(?P<e>[+-]?\d{{1,3}})\b)?(?!\d)"
    rf"|\b(?P<word>(?:{_WORD})(?:[- ](?:{_WORD}))?)\b"
)
_OUT_OF = re.compile(rf"(?i)\b({_WORD}|\d{{1,6}}) out of (?:the )?({_WORD}|\d{{1,6}})\b")
_UNIT = r"""(?:(?:sq(?:uare|\.)?|cubic)\ )?(?:[kcmdµn]m|in|ft|yd|mi|[kK]g|mg|[kM]?Hz|[km][LlWJNVA]
    |hrs?|min|rad|mph|°[CFT]?|%|€|£
    |(?<=[\s}])[mgshLlWJNVAK]|(?!(?:or|and|plus|minus|times|over|half|root|thousand|[mbt]r?illion|hundred|dozen|squared
    |cubed|point|infinity)\b)[A-Za-z]{3,}(?:\ [A-Za-z]{3,}){0,2})"""
_UNITS = re.compile(
    rf"(?<=[\d\s)}}°π.])\ ?\(?{_UNIT}(?:\ ?(?:/|per)\ ?(?:{_UNIT}|h|s))?"
    r"(?:\ ?\^?\ ?[({]?-?[123][)}]?|[²³])?\)?$",
    re.X,
)
# Of units that a careless answer mixes up: by kind, in the first one.
_SIZES: dict[str, dict[str, float]] = {
    "length": {"m": 1, "met(?:er|re)": 1, "km": 1e3, "kilomet(?:er|re)": 1e3, "cm": 0.01, "mm": 1e-3,
               "centimet(?:er|re)": 0.01, "millimet(?:er|re)": 1e-3, "ft|f[oe]et|foot": 0.3048,
               "in|inch(?:es)?": 0.0254, "yd|yard": 0.9144, "mi|mile": 1609.344},
    "mass": {"g|gram": 1, "kg|kilogram": 1e3, "mg|milligram": 1e-3},
    "time": {"s|sec|second": 1, "min|minute": 60, "h|hr|hour": 3600, "day": 86400, "week": 604800},
}  # fmt: skip
_SIZED = [
    (re.compile(rf"(?:^|(?<=[\d\s)}}])) ?(?:{names})s?$"), kind, float(size))
    for kind, units in _SIZES.items()
    for names, size in units.items()
]
_ROUGHLY = re.compile(r"(?i)^(?:(?:is|are|approximately|about|around|roughly|exactly|only|equal to|≈|~) ?)+")
_MONEY = re.compile(r"^(-?) ?[$€£¥] ?")
# What math-verify would read as some number: ratios, lists, sets, plus-minus, inequalities, words.
_NO_NUMBER = re.compile(
    r"(?i)\d \d|[_:;,<>\[\]|!?&@#\"±∓≤≥∈\u222a]|\\(?:pm|mp|in|cup|cap|le|ge|lt|gt|ne|to|infty|\{)"
    r"|(?<!\\)\b[a-z]{3,}"
)
_NAMED_E = re.compile(r"(?<![\\A-Za-z])e(?![a-z])")
_TOWER = re.compile(r"\^\s*(?:\{[^{}]{0,40}|\w\s*)\^|\^\s*\{?\s*-?\d{5}")  # would be evaluated for ever
_TEXT = re.compile(r"\\(?:text|mathrm) ?\{[ ~]?([^{}]*)\}")
# Words would be products of their letters, and "listen" the same as "silent".
_FUNCTION = re.compile(r"(?<![\\A-Za-z])(?=(?:(?:arc)?(?:sin|cos|tan)|cot|sec|csc|log|exp|max|min)(?![a-z]))")
_NO_FORMULA = re.compile(r"[:;,]|\\pm|±|(?<![\\A-Za-z])[A-Za-z]{3,}|^[A-Za-z ]+$")
_POWER = re.compile(r"(?i)[a-z)}]\s*\^\s*\{?\s*-?\d{3}")  # would be expanded
_LONGEST, _DEEPEST = 200, 12  # characters, open brackets
_SECONDS = 60  # ends a hang; a cold parser on a busy machine takes several, and no verdict may hang on that
_SPACED = re.compile(r"(?<=\d) (?=\d{3}(?!\d))")  # thousands
_SPACED_NUMBER = re.compile(r"-?\d{1,3}(?: \d{3})+(?:\.\d+)?")
_NAME = 4  # words before `=`, as of "Area of the square ="
_RELATION = re.compile(r"=|≈|\\approx|\\simeq")


def numbers(text: str) -> list[tuple[str, int, int]]:
    """(value in plain notation, start, end) of each number in `text`, which is free of LaTeX."""
    found = ((_plain(match), *match.span()) for match in NUMBER.finditer(text))
    return [(value, start, end) for value, start, end in found if value is not None]


def trimmed(phrase: str, also: str = "") -> str:
    """Without spaces and signs around it; a leading point belongs to `.5`."""
    return phrase.strip(" $" + also).rstrip(" .$" + also)


def out_of(sentence: str) -> str | None:
    """The fraction that "three out of four" is; None where no such words stand there."""
    match = _OUT_OF.search(sentence)
    if match is None:
        return None
    above, below = (WORDS.get(part.lower(), part) for part in match.groups())
    return decimal(Fraction(int(above), int(below))) if int(below) else None


@lru_cache(maxsize=4096)
def value(phrase: str) -> str | None:
    """The one number that a phrase is, in plain notation; None for any other phrase.

    Set aside: units, a currency, a percent sign, "about", `x =`. Of a chain of equations the last number.
    """
    if "±" in phrase or "\\pm" in phrase or "\\mp" in phrase:
        return None
    parts = [part for part in _RELATION.split(plain(trimmed(phrase))) if part.strip()]
    if any(len(part.split()) > _NAME for part in parts[:-1]):
        return None  # a sentence with a formula in it
    tried = parts[-1:] + (parts[:1] if parts and re.fullmatch(r" ?[A-Za-z] ?", parts[-1]) else [])  # `5 = s`
    return next((found for part in tried if (found := _value(part)) is not None), None)


def rescaled(number: str, written: str, wanted: str) -> str | None:
    """A number `written` in one unit, in the one `wanted`: 12 of "cm" is .12 of "m". None where the one is a
    length and the other a time; as it is where a unit is not known here."""
    units = [_unit(text) for text in (written, wanted)]
    if units[0] == units[1] or None in units:
        return number
    (kind, size), (other, of) = ((one[0], one[1]) for one in units if one)
    return decimal(Fraction(number) * Fraction(str(size)) / Fraction(str(of))) if kind == other else None


def _unit(text: str) -> tuple[str, float] | None:
    bare = without_latex(text).rstrip(" .)$")
    return next(((kind, size) for pattern, kind, size in _SIZED if pattern.search(bare)), None)


def _value(part: str) -> str | None:
    bare = _MONEY.sub(r"\1", _ROUGHLY.sub("", trimmed(without_latex(part), "'\"")))
    bare = trimmed(_UNITS.sub("", bare)) if not bare.endswith(tuple("0123456789")) else bare
    bare = _SPACED.sub("", bare) if _SPACED_NUMBER.fullmatch(bare) else bare
    if match := NUMBER.fullmatch(bare):
        return _plain(match)
    bare = _UNITS.sub("", _TEXT.sub(r" \1", trimmed(part.replace("°", "^\\circ"))))
    expression = evaluate(bare) if any(map(str.isdigit, bare)) or "π" in bare or "\\pi" in bare else None
    return None if expression is None else _number(expression)


def evaluate(latex: str) -> Any:
    """The sympy expression of a formula of numbers, or None."""
    text = trimmed(latex).replace("√", "\\sqrt ").replace("π", "\\pi ")
    if _NO_NUMBER.search(text) or _NAMED_E.search(text):
        return None
    text = re.sub(r"\\sqrt (\d+(?:\.\d+)?)", r"\\sqrt{\1}", text)
    if re.search(r"\\(?:sin|cos|tan)", text):  # of degrees, which the parser leaves out
        text = re.sub(r"(\d+(?:\.\d+)?) ?\^ ?\{? ?\\circ ?\}?", r"{(\1\\pi/180)}", text)
    return next(iter(_parsed(text)), None)


@lru_cache(maxsize=4096)
def _parsed(latex: str) -> tuple[Any, ...]:
    """math-verify's expressions of a formula; none where it has none, or where the formula is too large."""
    large = len(latex) > _LONGEST or sum(map(latex.count, "([{")) > _DEEPEST
    if large or "!" in latex or _TOWER.search(latex) or _POWER.search(latex):
        return ()
    from latex2sympy2_extended import NormalizationConfig
    from math_verify import LatexExtractionConfig, parse

    as_written = LatexExtractionConfig(  # no unit is removed here: 12m is no number
        normalization_config=NormalizationConfig(basic_latex=True, malformed_operators=True, nits=True)
    )
    logging.getLogger("math_verify").setLevel(logging.ERROR)  # warns at each call without a timeout
    try:
        found = parse(f"${latex}$", [as_written], "no_fallback", parsing_timeout=_timeout())
    except Exception:  # the parser and sympy raise whatever they like on hostile text
        return ()
    return tuple(one for one in found if not isinstance(one, str))


def _timeout() -> int | None:
    """Seconds for math-verify, which counts them by a signal: of the main thread alone."""
    return _SECONDS if threading.current_thread() is threading.main_thread() else None


def _number(expression: sympy.Expr) -> str | None:
    try:
        if expression.free_symbols or not expression.is_real:
            return None
        if expression.is_Rational:
            return decimal(Fraction(int(expression.p), int(expression.q)))
        approximate = float(expression.evalf(20))
    except (AttributeError, TypeError, ValueError, OverflowError):
        return None
    return tidy(f"{approximate:.12f}".rstrip("0")) if math.isfinite(approximate) else None


def same(one: str, other: str) -> bool:
    """Whether two phrases say the same: letter for letter, as numbers, as formulas, or as tuples of such."""
    first, second = squeezed(one), squeezed(other)
    if first == second:
        return True
    numbers_of = value(one), value(other)
    if None not in numbers_of:
        scaled = rescaled(str(numbers_of[0]), one, other)
        return scaled is not None and close(scaled, str(numbers_of[1]))
    if any(numbers_of) or "" in (first, second):
        return False
    if first[0] in "([" and (first[0], first[-1]) == (second[0], second[-1]):
        parts = first[1:-1].split(","), second[1:-1].split(",")
        return len(parts[0]) == len(parts[1]) > 1 and all(map(same, *parts))
    return _verified(*(_FUNCTION.sub(r"\\", plain(side)) for side in (one, other)))


def _verified(one: str, other: str) -> bool:
    if any(map(_NO_FORMULA.search, (one, other))):
        return False
    gold, answer = _parsed(one), _parsed(other)
    if not gold or not answer:
        return False
    from math_verify import verify

    try:
        return bool(verify(list(gold), list(answer), timeout_seconds=_timeout()))
    except Exception:  # as above
        return False


def close(one: str, other: str) -> bool:
    """Whether two plain numbers are equal: whole ones in every digit, others to nine."""
    first, second = float(one), float(other)
    if first.is_integer() and second.is_integer():
        return Fraction(one) == Fraction(other)
    return abs(first - second) <= 1e-9 * max(1.0, abs(second))


@lru_cache(maxsize=4096)
def squeezed(text: str) -> str:
    """Letters and signs alone: neither spaces, `$`, a closing full stop nor the writing of LaTeX count."""
    return "".join(without_latex(plain(text)).split()).casefold().rstrip(".")


def _plain(match: re.Match[str]) -> str | None:
    if match["above"]:
        if int(match["below"]) == 0:
            return None
        whole, part = int(match["whole"] or 0), Fraction(int(match["above"]), int(match["below"]))
        return decimal(whole + (-part if (match["whole"] or "").startswith("-") else part))
    if match["word"]:
        return str(sum(WORDS[part] for part in re.split("[- ]", match["word"].lower())))
    digits, power = match["decimal"].replace(",", ""), match["power"] or match["e"]
    if power and abs(int(power)) <= 40:
        return decimal(Fraction(digits) * Fraction(10) ** int(power))
    return tidy(digits)


def decimal_text(number: str) -> bool:
    """Whether a number in plain notation ends: one computed from a root or from π has twelve decimals."""
    return len(number.partition(".")[2]) < 12


def decimal(number: Fraction) -> str:
    """A fraction as a decimal of at most twelve digits after the point."""
    if number.denominator == 1:
        return str(number.numerator)
    return tidy(f"{float(number):.12f}".rstrip("0"))


def tidy(digits: str) -> str:
    """`-.50` as `-0.50`, `007` as `7`."""
    sign = "-" if digits.startswith("-") else ""
    whole, point, rest = digits.lstrip("-").partition(".")
    return sign + (whole.lstrip("0") or "0") + (point + rest if rest else "")
