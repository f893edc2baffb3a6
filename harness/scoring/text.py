"""A response made plain before it is read. Linear in the text: every repetition in a pattern is bounded."""

from __future__ import annotations

import re
import unicodedata

_THINK_ENDS = ("</think>", "</thinking>", "<|end_of_thought|>", "◁/think▷")
_THINK_STARTS = ("<think>", "<thinking>", "<|begin_of_thought|>", "◁think▷")
# A model that goes on after its answer writes the next turn itself; that answers another question.
_NEXT_TURN = re.compile(
    r"(?i)\n[ \t]{0,8}(?:#{1,4} {0,2}|\*{2} {0,2})?(?:question|human|user|hint|problem|q)(?: \d{1,3})? {0,2}:"
    r"|\n[ \t]{0,8}(?:[2-9]|1\d)[.)] ?[^\n?]{12,400}\?(?=\n)",  # "2. Which set is a reflection of it?"
    re.IGNORECASE,
)
_SPECIAL = re.compile(r"<\|[^<>|\s]{1,64}\|>|</?s>|<(?:eos|bos|pad|unk)>|\[/?INST\]")
_HTML = re.compile(
    r"(?i)</?(?:b|i|u|em|strong|p|br|span|div|center|code|sub|sup|font|img|image|h[1-6])(?: [^<>]{0,200})?/?>"
)
_MARKUP = re.compile(r"\*\*|__|`|\\\$")
_MINUS = re.compile(r"(?i)(?<![\w)}] )\b(?:minus|negative) (?=\d)|(?<=\b(?:is|be) )(?:minus|negative) (?=\d)")
_DELIMITER = re.compile(r"\$|\\[()\[\]]")  # of LaTeX in a text
_FONT = re.compile(
    r"\\(?:text|math)(?:rm|bf|it|sf|tt|normal)?\b ?"
    r"|\\(?:mbox|operatorname|boldsymbol|bf|bm|left|right|displaystyle)\b ?"
)
_THOUSANDS = re.compile(r"(?<=\d)(?:\\[,;:!]|\{,\}|\\ )(?=\d{3}(?!\d))")
_SPACING = re.compile(r"\\[,;:! ]|\\q?quad\b|~")
_ROOT = re.compile(r"\\sqrt ?(?:\{ ?([\w.]{1,12}) ?\}|(\d))")
_MIXED = re.compile(r"(?<=\d)(?=\\[dt]?frac)")
_FRACTION = re.compile(r"\\[dt]?frac ?(?:\{ ?(-?[\w.√π]{1,12}) ?\}|(\d)) ?(?:\{ ?([\w.√π]{1,12}) ?\}|(\d))")
_SIGNS = {"pi": "π", "times": "\u00d7", "approx": "≈", "cdot": "·", "angle": "∠", "neq": "≠", "%": "%"}
_SIGN = re.compile(r"\\(pi|times|approx|cdot|angle|neq)(?![a-z])|\\(%)")
_DEGREE = re.compile(r"\^ ?\{? ?\\circ ?\}?|\\degree|\^°")
_SENTENCE = re.compile(r"(?<=[.!?])(?<!\b[A-Z]\.[A-Z]\.)\s+|(?<=[^\x00-\x7f][.!?])(?=\S)|\n+")
_LEADS_ON = re.compile(r"(?i)(?::|\banswer|\b(?:is|are)) ?\n")  # "The answer is:\n(B)", "## Answer\nB"
_HEAD, _TAIL, _LONGEST_SENTENCE = 10_000, 30_000, 2_000  # characters that are read
_LEAD_IN = 20  # letters before a repeated question, as of "based on the image,"

_FOLDED: dict[int, str | None] = {
    code: unicodedata.normalize("NFKC", chr(code)) for code in range(0xFF01, 0xFF5F)
}
_FOLDED |= {0x24B6 + index: f"({chr(65 + index)})" for index in range(26)}  # circled letters
for _marks, _plain in (
    ("\u2018\u2019\u2032", "'"),
    ("\u201c\u201d\u2033", '"'),
    ("\u2010\u2011\u2012\u2013\u2014\u2212", "-"),
    ("\u00a0\u2009\u202f\u3000", " "),
    (map(chr, (*range(1, 9), *range(14, 32), *range(127, 160))), " "),  # controls
    (map(chr, (0, *range(0x200B, 0x2010), 0x2060, 0xFEFF, 0xFFFD, *range(0xD800, 0xE000))), None),
):
    _FOLDED |= dict.fromkeys(map(ord, _marks), _plain)
_FOLDED |= dict(zip(map(ord, "\u3010\u3011\u3014\u3015\u3002"), "[]().", strict=True))


def answer_part(response: str) -> tuple[str, bool]:
    """(what stands after the last end of thinking, whether thinking began and never ended).

    A closing tag without an opening one counts: the opening may have stood in the prompt.
    """
    end = max(response.rfind(mark) + len(mark) if mark in response else 0 for mark in _THINK_ENDS)
    rest = response[end:]
    return rest, any(mark in rest for mark in _THINK_STARTS)


def thought_ended(response: str) -> bool:
    """Whether a closing tag of thinking stands anywhere."""
    return any(mark in response for mark in _THINK_ENDS)


def plain(text: str) -> str:
    """Full-width forms, quotes, dashes, control characters, markup and spaces made ordinary; LaTeX stays."""
    text = _HTML.sub(" ", _SPECIAL.sub(" ", text.translate(_FOLDED)))
    text = re.sub(r"[ \t\r\f\v]+", " ", _DELIMITER.sub(" ", _MARKUP.sub("", text)))
    text = _MINUS.sub("-", text)
    return re.sub(r" ?\n[ \n]*", "\n", text).strip()


def without_latex(text: str) -> str:
    """Commands as the signs of plain text: `\\text{ (B)}\\ 1\\frac{1}{2}` reads ` (B) 1 1/2`."""
    text = _FONT.sub("", _THOUSANDS.sub("", text))
    text = _ROOT.sub(lambda found: f"√{found[1] or found[2]}", text)
    text = _FRACTION.sub(
        lambda found: f"{found[1] or found[2]}/{found[3] or found[4]}", _MIXED.sub(" ", text)
    )
    text = _SIGN.sub(lambda found: _SIGNS[found[1] or found[2]], _DEGREE.sub("°", _SPACING.sub(" ", text)))
    return text.replace("{", "").replace("}", "").strip()


def own_turn(text: str) -> str:
    """The text up to where the model begins the next turn or example itself."""
    found = _NEXT_TURN.search(text, 1)
    return text[: found.start()] if found else text


def sentences(text: str) -> list[str]:
    """Sentences and lines, stripped; of a very long text its beginning and its end, where answers stand."""
    if len(text) > _HEAD + _TAIL:
        text = f"{text[:_HEAD]}\n{text[-_TAIL:]}"
    parts = _SENTENCE.split(_LEADS_ON.sub(lambda found: found[0].strip(": \n") + ": ", text))
    return [stripped[:_LONGEST_SENTENCE] for part in parts if part and (stripped := part.strip())]


def without_echo(text: str, question: str) -> str:
    """`text` without the question it begins with: some models repeat their prompt."""
    asked = "".join(filter(str.isalnum, question.casefold()))
    if len(asked) < 12:
        return text
    letters, places = [], []
    for index, character in enumerate(text[: 3 * len(question) + 200]):
        for one in filter(str.isalnum, character.casefold()):
            letters.append(one)
            places.append(index)
    at = "".join(letters).find(asked)
    if not 0 <= at <= _LEAD_IN:
        return text
    return text[places[at + len(asked) - 1] + 1 :].lstrip(" ?.,:;)*/+\n\"'")
