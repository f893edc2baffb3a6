"""What a sentence says without naming a label: an option's words, an option's number, a yes or a no."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

from harness.scoring.items import Item
from harness.scoring.numerals import numbers
from harness.scoring.text import plain, without_latex

_WORDS = re.compile(r"[^\W_]+(?:[.,:]\d+)*|[%°$€£<>=+/√²³-]")
# Too common to count in the middle of a sentence: an option made of one of them must begin it.
_SIDES = {"left", "right", "up", "down"}
_EMPTY = frozenset(
    {"yes", "no", "true", "false", "none", "nothing", "same", "all", "other", "neither", "both", "na"}
)
_COMMON = _EMPTY | _SIDES
_ARTICLES = (
    "the a an of in to is are it its would will be also and or that this there for on at by with do does they"
)
_LIGHT = frozenset(_ARTICLES.split(" "))
_CONDITION = re.compile(
    r"\b(?:if|when|since|as|because)\b[^,.;]{0,160},|\b(?:if|because|since|due to|when)\b[^,.;]{0,200}",
    re.IGNORECASE,
)
_CONTRAST = re.compile(r"\b(?:not|rather than|instead of|unlike) [^,.;]{0,80}", re.IGNORECASE)
_SHORT = 60


@lru_cache(maxsize=4096)
def option_words(choice: str) -> tuple[str, ...]:
    """The words of an option, its LaTeX read like a response's."""
    return tuple(words(without_latex(plain(choice))))


def words(text: str) -> list[str]:
    """Words, numbers and signs that carry meaning, in lower case."""
    return _WORDS.findall(text.casefold())


def text_of(item: Item, label: str) -> str:
    """The option's text; empty where it stands in the image alone."""
    index = item.labels.index(label)
    return item.options[index] if index < len(item.options) else ""


def starts_with(text: str, option: str) -> bool:
    """Whether `text` begins with the option's words."""
    wanted = list(option_words(option))
    return bool(wanted) and words(text[: 4 * len(option) + 40])[: len(wanted)] == wanted


def same_text(text: str, item: Item) -> str | None:
    """The option that `text` is, word for word or but for a slip of spelling."""
    said = words(text[:2000])
    exact = [label for label, wanted in _options(item) if said and list(wanted) == said]
    if (
        not exact and len(text) < 40 and (digits := _bare_digits(text))
    ):  # "38 33": a decimal point or a comma got lost
        exact = [
            label
            for label, choice in zip(item.labels, item.options, strict=False)
            if _bare_digits(choice) == digits
        ]
    if exact or len(text) > 60 or any(map(str.isdigit, text)):
        return exact[0] if len(exact) == 1 else None
    from Levenshtein import ratio

    near = [
        label
        for label, wanted in _options(item)
        if ratio(" ".join(said), " ".join(wanted), score_cutoff=0.88) > 0
    ]
    return near[0] if len(near) == 1 and len(text) > 5 else None


def _bare_digits(text: str) -> str:
    """The digits of a text that is one number but for signs and spaces, of which at least two; else
    nothing."""
    digits = "".join(filter(str.isdigit, text))
    return digits if len(digits) > 1 and not any(map(str.isalpha, text)) else ""


def by_text(phrase: str, item: Item) -> str | None:
    """The label of the one option whose text `phrase` repeats; of options inside one another the longest;
    None where several are named.

    A one-letter text is left out (it might be the article), and a text that is a common word (`no`, `none`)
    counts at the beginning alone.
    """
    named = _repeated(phrase, item)
    return named[0][0] if named and len({text for _, text in named}) == 1 else None


def by_meaning(phrase: str, item: Item) -> str | None:
    """Like `by_text`, else the one option all of whose own words (those not shared by all options) are in
    `phrase` in some form.

    A condition ("if the eggs are eaten, ...") restates the question and is left out.
    """
    if _repeated(phrase, item):
        return (
            by_text(phrase, item)
            or by_text(_CONDITION.sub(" ", phrase), item)
            or by_text(_CONTRAST.sub(" ", phrase), item)
        )
    said = set(words(_CONDITION.sub(" ", phrase)))
    options = [(label, [one for one in wanted if one not in _LIGHT]) for label, wanted in _options(item)]
    shared = set.intersection(*(set(wanted) for _, wanted in options)) if len(options) > 1 else set()
    named = []
    for label, wanted in options:
        own = [one for one in wanted if one not in shared]
        if (
            own
            and not set(own) <= _EMPTY
            and all(len(one) > 1 and any(_same_word(one, other) for other in said) for one in own)
        ):
            named.append((label, len(own)))
    longest = max((length for _, length in named), default=0)
    best = [label for label, length in named if length == longest]
    if not best and len(phrase) <= _SHORT:  # "Paris" for "Paris, France"
        best = [
            label
            for label, wanted in options
            if any(len(one) > 3 and one not in shared | _COMMON and one in said for one in wanted)
        ]
    return best[0] if len(best) == 1 else None


def by_number(phrase: str, item: Item) -> str | None:
    """The one option whose only number is the last number of the phrase."""
    said = numbers(phrase)
    if not said:
        return None
    named = []
    for label, choice in zip(item.labels, item.options, strict=False):
        own = numbers(without_latex(plain(choice)))
        if len(own) == 1 and float(own[0][0]) == float(said[-1][0]):
            named.append(label)
    return named[0] if len(named) == 1 else None


def _options(item: Item) -> Sequence[tuple[str, tuple[str, ...]]]:
    return [
        (label, wanted)
        for label, choice in zip(item.labels, item.options, strict=False)
        if (wanted := option_words(choice))
    ]


def _repeated(phrase: str, item: Item) -> list[tuple[str, str]]:
    said = words(phrase)
    joined = f" {' '.join(said)} "
    named = []
    for label, wanted in _options(item):
        text = " ".join(wanted)
        if len(text) == 1 and not text.isdigit() and text not in "<>=":
            continue
        if (said[: len(wanted)] == list(wanted)) if text in _COMMON else f" {text} " in joined:
            named.append((label, text))
    return [
        one
        for one in named
        if not any(one[1] != other[1] and f" {one[1]} " in f" {other[1]} " for other in named)
    ]


def _same_word(wanted: str, said: str) -> bool:
    """The same word, or one with another ending: flip, flipped; frogs, frog; increase, increases."""
    if wanted == said:
        return True
    stem = wanted.rstrip("s") if len(wanted) > 4 else wanted
    if (
        len(stem) > 3
        and stem.isalpha()
        and said.startswith(stem[:-1] if stem.endswith("e") and len(stem) > 4 else stem)
    ):
        return True
    if len(wanted) < 6 or wanted[0] != said[0] or abs(len(wanted) - len(said)) > 2:
        return False
    from Levenshtein import ratio

    return ratio(wanted, said) > 0.82  # metres, meters
