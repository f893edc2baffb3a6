"""Which options a phrase names: by label, by the option's own text, or by its value.

A bare "A" or "I", or a lower-case letter, is a label only where something says so: brackets, a following `)`
`.` `:`, the end of the phrase, a list of labels, or the option's own text.
"""

from __future__ import annotations

import re
from functools import lru_cache

from harness.scoring.cues import NOUNS
from harness.scoring.items import Item
from harness.scoring.text import plain, without_latex
from harness.scoring.values import numbers, same, squeezed, value

_FILLERS = (
    "the|is|be|clearly|definitely|likely|probably|therefore|indeed|both|only|simply|just|actually|most|correct"
    "|right|in|to|by"
)
_LEAD = re.compile(
    rf"(?i)[\s\"'*#>:=~,./-]{{0,40}}(?:(?:{_FILLERS})\b:? ?){{0,4}}(?:(?:{NOUNS}|number)s?\b:? ?)?"
)
_FILLING = re.compile(rf"(?:{_FILLERS}|{NOUNS}|and|or|it|number)s?")
_RUNS_INTO = r"[A-Za-z0-9_%°]|\.\d|,\d|[-/+*^=(]\w|'[a-z]| ?="  # a word, a number, a formula: no label
_ONE = re.compile(rf"[\"'\[]?(?:[(\[] ?([A-Za-z1-9]) ?(?:[)\]]|$)|([A-Za-z1-9])(?!{_RUNS_INTO}))[\"'\]]?")
_JOIN = re.compile(rf"(?i) ?(?:,? ?(?:and|or|&|,|/|\+|;) ?|\n|和|、|与)(?:both |(?:{NOUNS})s? )?|[ \n](?=\()")
_OR = re.compile(r"(?i)\bor\b")
# After a capital letter that a cue led to: the end, a mark, an amount, or how the sentence goes on.
_GOES_ON = re.compile(
    r" ?(?:$|[).:;,!?\"'\]\n<]|-(?!\w)|\()|[^\x00-\x7f]| (?=[\d€£$])| (?:because|since|as|is|are|from"
    r"|would|will|has|was|which|in)\b| ?(?:,|,? and|,? or|&) ?\(?[A-Ja-j1-9]\b(?!')"
)
_RANGE = re.compile(r"\(?([A-J]) ?(?:-|to) ?([A-J])\)?(?![\w'])")
_ALSO = re.compile(r"[ ,;]*(?:or|and) ")
_RUN = re.compile(r"[A-J]{2,10}")
_NOUN_LABEL = re.compile(rf"(?i)\b(?:{NOUNS})s? (?=[\"'(]?[A-J1-9]\b)|选项 ?(?=[A-J])")
_BRACKETED = re.compile(r"(?i)\( ?(?:(?:option|choice) )?([A-Ja-j1-9]) ?\)")
_WORDS = re.compile(r"[^\W_]+(?:[.,:]\d+)*|[%°$€£<>=+*/√²³-]")
# Too common to name an option in the midst of a sentence.
_COMMON = re.compile("yes|no|true|false|none|nothing|same|all|other|neither|both|na|a|an|the|i")
_INLINE = re.compile(r"\( ?([A-Ja-j]) ?\)(?= ?[^\s,(.;)])")
_LISTED = re.compile(r"(?:^|\n)[^\w(\n]{0,4}(?:\(([A-Ja-j])\)|([A-Ja-j])\)|([A-J])[.:]) ?")


@lru_cache(maxsize=4096)
def words(text: str) -> tuple[str, ...]:
    """Words, numbers and signs that carry meaning, in lower case, the LaTeX read as plain text."""
    return tuple(_WORDS.findall(without_latex(plain(text)).casefold()))


def resolve(item: Item, phrase: str, by_label: bool = True) -> tuple[str, ...]:
    """The labels that a phrase in the answer's place stands for: several only where they are listed.

    Without `by_label` only its text or its value names an option.
    """
    bare = without_latex(phrase)
    exact = _with_text(item, bare)
    if len(exact) > 1:  # they differ in signs alone
        exact = [label for label in exact if squeezed(item.text_of(label)) == squeezed(phrase)] or exact
    if len(exact) == 1 and len(words(bare)) > 1:  # "A is darker" names an option whose text it is
        return (exact[0],)
    if by_label and (labels := label_set(bare, item)):
        return labels
    equal = exact or [label for label, text in item.texts.items() if same(text, phrase)]
    return tuple(equal) if len({words(item.text_of(label)) for label in equal}) == 1 else ()


def alone(item: Item, text: str) -> tuple[str, ...]:
    """The labels that a reply is, where nothing but filling words stands beside them and the options' texts:
    neither "B is wrong" nor "B?"."""
    labels = resolve(item, text)
    if labels == resolve(item, text, by_label=False):
        return labels
    own = {word for label in labels for word in words(item.text_of(label))} | {"".join(labels).lower()}
    rest = [
        word for word in words(text) if len(word) > 1 and word not in own and not _FILLING.fullmatch(word)
    ]
    return () if "?" in text or (rest and not _LISTED.match(text)) else labels


def _with_text(item: Item, phrase: str) -> list[str]:
    """The labels whose option's text a phrase is, an article aside; else those whose text it misspells."""
    said = _content(phrase)
    texts = {label: _content(text) for label, text in item.texts.items()}
    exact = [label for label, text in texts.items() if said and text == said]
    if exact or not 6 <= len(phrase) <= 60 or any(map(str.isdigit, phrase)):
        return exact
    from Levenshtein import ratio

    return [label for label, text in texts.items() if ratio(" ".join(said), " ".join(text)) > 0.88]


def _content(text: str) -> tuple[str, ...]:
    found = words(text.strip(" ."))
    return found[1:] if len(found) > 1 and found[0] == "the" else found


def label_set(phrase: str, item: Item) -> tuple[str, ...]:
    """The labels that a phrase begins with, e.g. `(B) no`, `Option C.`, `A and C`, `A-D`; empty: none."""
    if item.kind == "multi" and (run := _RUN.fullmatch(phrase.strip(" ."))):
        found = tuple(run[0])  # "AC"
        return found if found == tuple(sorted({*found} & {*item.labels})) else ()
    if item.kind == "multi" and (spread := _RANGE.match(phrase.strip(" ."))):
        begin, end = (item.labels.index(side) if side in item.labels else -1 for side in spread.groups())
        return item.labels[begin : end + 1] if 0 <= begin < end else ()
    phrase = re.sub(r"\((?=[A-Ja-j1-9] ?,)", "", phrase, count=1)
    start = _LEAD.match(phrase)
    for cursor in (start.end() if start else 0, len(phrase) - len(phrase.lstrip(" \n\"'*:=-.,"))):
        if first := _label_at(phrase, cursor, item):
            return _rest_of_list(phrase, first, item)
    return ()


def _rest_of_list(phrase: str, first: tuple[str, int], item: Item) -> tuple[str, ...]:
    found, cursor = [first[0]], first[1]
    if _own_text_follows(phrase, cursor, item, first[0]):  # whatever letters are in it
        text = item.text_of(first[0]).strip(" .")
        at = phrase.casefold().find(text.casefold(), cursor)
        cursor = at + len(text) if 0 <= at <= cursor + 2 else len(phrase)
        if not _ALSO.match(phrase, cursor):
            return (first[0],)
    while (join := _JOIN.match(phrase, cursor)) and (following := _label_at(phrase, join.end(), item)):
        if item.kind == "multi" and _OR.search(join[0]):
            return ()
        found.append(following[0])
        cursor = following[1]
    return tuple(sorted(set(found)))


def _own_text_follows(phrase: str, cursor: int, item: Item, label: str) -> bool:
    text = words(item.text_of(label))
    return bool(text) and words(phrase[cursor : cursor + 400])[: len(text)] == text


def _label_at(phrase: str, cursor: int, item: Item) -> tuple[str, int] | None:
    """(label, index after) where one stands at `cursor` and is not an ordinary word."""
    match = _ONE.match(phrase, cursor)
    label = (match[1] or match[2]).upper() if match else ""
    if match is None or label not in item.labels:
        return None
    end = match.end()
    if match[1]:
        return label, end
    goes_on = _GOES_ON.match(phrase, end)
    plain_end = goes_on is not None and not goes_on[0][1:2].isalpha()
    clear = match[2] in "BCDEFGHJ" or plain_end or (match[2] == "A" and goes_on)
    return (
        (label, end + (phrase[end : end + 1] == ")"))
        if clear or _own_text_follows(phrase, end, item, label)
        else None
    )


def mentions(item: Item, sentence: str) -> list[tuple[int, int, tuple[str, ...]]]:
    """(start, end, labels) of every option that a sentence names by label or text, in order."""
    found = []
    for match in _NOUN_LABEL.finditer(sentence):
        rest = sentence[match.end() :]
        capital = re.match(r"[\"'(]?([A-J1-9])[\"')]?", rest)
        labels = label_set(rest, item) or ((capital[1],) if capital and capital[1] in item.labels else ())
        if labels:
            found.append((match.start(), match.end() + 1, labels))
    for match in _BRACKETED.finditer(sentence):
        if match[1].upper() in item.labels:
            found.append((match.start(), match.end(), (match[1].upper(),)))
    return sorted(found + _by_text(item, sentence))


def _by_text(item: Item, sentence: str) -> list[tuple[int, int, tuple[str, ...]]]:
    """The options whose text, or value, stands in a sentence; of texts inside one another the longest."""
    spans = [(match[0].casefold(), match.start(), match.end()) for match in _WORDS.finditer(sentence)]
    said, found = [_singular(one) for one, _, _ in spans], []
    for label, option in item.texts.items():
        for text in _texts(option):
            for at in range(len(said) - len(text) + 1):
                if said[at : at + len(text)] == text:
                    found.append((spans[at][1], spans[at + len(text) - 1][2], (label,)))
        if number := value(option):
            found += [(start, end, (label,)) for one, start, end in numbers(sentence) if one == number]

    def inside(one: tuple[int, int, tuple[str, ...]], two: tuple[int, int, tuple[str, ...]]) -> bool:
        return two[0] <= one[0] and one[1] <= two[1] and one[:2] != two[:2]

    return [one for one in found if not any(inside(one, two) for two in found)]


def _texts(option: str) -> list[list[str]]:
    """An option as its words, and as those before a comma ("Paris" of "Paris, France"), unless too common."""
    whole, short = (list(map(_singular, _content(text))) for text in (option, option.partition(", ")[0]))
    texts = [whole, short] if short != whole and len("".join(short)) > 3 else [whole]
    return [text for text in texts if len(text) > 1 or (text and _names(text[0]))]


def _names(word: str) -> bool:
    return not _COMMON.fullmatch(word) and (len(word) > 1 or not word.isalpha())


def _singular(word: str) -> str:
    return word[:-1] if len(word) > 3 and word.endswith("s") else word


def lists_options(text: str) -> bool:
    """Whether two options begin lines, or three stand within lines, as in a copy of the question."""
    lines = {(found[1] or found[2] or found[3]).upper() for found in _LISTED.finditer(text)}
    return len(lines) > 1 or len({found[1].upper() for found in _INLINE.finditer(text)}) > 2


def listed_label(line: str) -> str | None:
    """The label at the beginning of a line: `(B)`, `b)`, `B.`; None where there is none."""
    found = _LISTED.match(line)
    return (found[1] or found[2] or found[3]).upper() if found else None
