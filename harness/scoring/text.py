"""A response made plain before it is read: the one place where thinking is cut off, and where marks are
unified.

Every step is linear in the text: translation tables, `str.find`, and regular expressions whose repetitions
are bounded or cannot overlap.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

_THINK_ENDS = ("</think>", "</thinking>", "<|end_of_thought|>", "◁/think▷")
_THINK_STARTS = ("<think>", "<thinking>", "<|begin_of_thought|>", "◁think▷")
# A model that goes on after its answer writes the next turn or the next example itself; nothing from there on
# answers this question.
_NEXT_TURN = re.compile(
    r"\n[ \t]{0,8}(?:#{1,4} {0,2}|\*{2} {0,2})?(?:question|human|user|hint|problem|q)(?: \d{1,3})? {0,2}:",
    re.IGNORECASE,
)
# So does a model that numbers questions of its own: "2. Which set is a reflection of it?", each with an
# answer.
_NEXT_NUMBERED = re.compile(r"\n[ \t]{0,8}(?:[2-9]|1\d)[.)] ?[^\n?]{12,400}\?(?=\n)")
_SPECIAL = re.compile(r"<\|[^<>|\s]{1,64}\|>|</?s>|<(?:eos|bos|pad|unk)>|\[/?INST\]")
_HTML = re.compile(
    r"</?(?:b|i|u|em|strong|p|br|span|div|center|code|sub|sup|font|img|image|h[1-6])(?: [^<>]{0,200})?/?>",
    re.IGNORECASE,
)
_SPACES = re.compile(r"[ \t\r\f\v]+")
_LINES = re.compile(r" ?\n[ \n]*")
_FONTS = "text|mathrm|textbf|mathbf|textrm|mbox|textit|mathit|textsf|mathsf|texttt|mathtt|textnormal|boldsymbol|bf|bm"
_COMMAND = re.compile(rf"\\(?:{_FONTS})\b ?")
_LONGEST_SENTENCE = 2_000
_HEAD, _TAIL = 10_000, 30_000  # characters of a longer response that are read for an answer in words
_LEAD_IN = 20  # letters before a repeated question, as of "based on the image,"
_SPACINGS = ("\\,", "\\;", "\\!", "\\:", "\\ ", "\\quad", "\\left", "\\right", "\\displaystyle", "\\big", "~")
_SIGNS = {"sqrt": "√", "pi": "π", "times": "\u00d7", "approx": "≈", "cdot": "·", "angle": "∠", "neq": "≠"}
_ROOT = re.compile(r"\\sqrt ?\{ ?([\w.]{1,12}) ?\}")
_FRACTION = re.compile(r"\\[dt]?frac ?\{ ?(-?[\w.√π]{1,12}) ?\} ?\{ ?([\w.√π]{1,12}) ?\}")
_SENTENCE = re.compile(r"(?<=[.!?])\s+|[。!?]|\n+")
_FOLDED: dict[int, str | None] = {
    code: unicodedata.normalize("NFKC", chr(code)) for code in range(0xFF01, 0xFF5F)
}
_FOLDED |= {0x24B6 + index: f"({chr(65 + index)})" for index in range(26)}  # circled letters
_FOLDED |= dict.fromkeys(map(ord, "\u2018\u2019\u2032"), "'") | dict.fromkeys(
    map(ord, "\u201c\u201d\u2033"), '"'
)
_FOLDED |= dict.fromkeys(map(ord, "\u2010\u2011\u2012\u2013\u2014\u2212"), "-") | dict.fromkeys(
    map(ord, "\u00a0\u3000"), " "
)
_FOLDED |= dict(zip(map(ord, "\u3010\u3011\u3014\u3015\u3002"), "[]().", strict=True))
_FOLDED |= dict.fromkeys((*range(1, 9), *range(14, 32), *range(127, 160)), " ")  # controls
_FOLDED |= dict.fromkeys(
    (0, 0x200B, 0x200C, 0x200D, 0x200E, 0x200F, 0x2060, 0xFEFF, 0xFFFD, *range(0xD800, 0xE000))
)


def answer_part(response: str) -> tuple[str, bool]:
    """(what stands after the last end of thinking, whether thinking began and never ended)."""
    end = max(response.rfind(mark) + len(mark) if mark in response else 0 for mark in _THINK_ENDS)
    rest = response[end:]
    return rest, any(mark in rest for mark in _THINK_STARTS)


def plain(text: str) -> str:
    """Full-width forms, quotes, dashes, control characters, markup and runs of spaces made ordinary; line
    breaks stay, one for a run."""
    text = text.translate(_FOLDED)
    text = _SPECIAL.sub(" ", text)
    text = _HTML.sub(" ", text)
    text = text.replace("**", "").replace("__", "").replace("`", "").replace("$", " ")
    text = (
        text.replace("\\(", " ")
        .replace("\\)", " ")
        .replace("\\[", " ")
        .replace("\\]", " ")
        .replace("\\$", "")
    )
    text = _SPACES.sub(" ", text)
    return _LINES.sub("\n", text).strip()


def without_latex(text: str) -> str:
    """Font commands, spacing commands and braces removed: `\\text{ (B)}\\ 12` reads ` (B) 12`."""
    text = _FRACTION.sub(r"\1/\2", _ROOT.sub(r"√\1", _COMMAND.sub("", text)))
    for mark in _SPACINGS:
        text = text.replace(mark, " ")
    for name, sign in _SIGNS.items():
        text = text.replace(f"\\{name}", sign)
    text = text.replace("^\\circ", "°").replace("^{\\circ}", "°").replace("\\degree", "°").replace("\\%", "%")
    return text.replace("{", "").replace("}", "").strip()


def own_turn(text: str) -> str:
    """The text up to where the model begins the next turn or example itself."""
    starts = [found.start() for pattern in (_NEXT_TURN, _NEXT_NUMBERED) if (found := pattern.search(text, 1))]
    return text[: min(starts)] if starts else text


def last_turn(text: str) -> str:
    """What follows the last turn or example that the model began itself; empty where there is none."""
    start = 0
    for following in _NEXT_TURN.finditer(text, 1):
        start = following.end()
    return text[start:].strip() if start else ""


def ends(text: str) -> str:
    """A text of ordinary length, or of a longer one its beginning and its end, where answers stand."""
    return text if len(text) <= _HEAD + _TAIL else f"{text[:_HEAD]}\n{text[-_TAIL:]}"


def sentences(text: str) -> Iterator[str]:
    """Sentences and lines, stripped, empty ones left out; of one too long to be a sentence its beginning."""
    for part in _SENTENCE.split(text):
        if part and (stripped := part.strip()):
            yield stripped[:_LONGEST_SENTENCE]


def without_echo(text: str, question: str) -> str:
    """`text` without the question it begins with (some models repeat their prompt), and without what stood
    before it on the way."""
    asked = "".join(filter(str.isalnum, question.casefold()))
    if len(asked) < 12:
        return text
    head = text[: 3 * len(question) + 200]
    letters, places = [], []
    for index, character in enumerate(head):
        for one in character.casefold():
            if one.isalnum():
                letters.append(one)
                places.append(index)
    at = "".join(letters).find(asked)
    if at < 0 or at > _LEAD_IN:
        return text
    return text[places[at + len(asked) - 1] + 1 :].lstrip(" ?.,:;)\n\"'") or text
