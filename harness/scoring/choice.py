"""The label that a response states: by its final-answer sentence, or by being nothing but an option.

Other prose is never read.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from harness.scoring import cues, polar
from harness.scoring.items import Item, Reading
from harness.scoring.labels import alone, label_set, listed_label, lists_options, mentions, words
from harness.scoring.text import sentences, without_latex

Labels = tuple[str, ...]
OPEN: Labels = ()  # of a sentence that leaves the answer open; None: it is about other things
_WHOLE, _LEADING = 40, 24  # characters of a reply that is a label alone; of what may stand before a subject
_NUMBERING = re.compile(r"(?m)^\d{1,2}[.)] ?(?=[^\s\d])")
_FOREIGN = re.compile(r"\W{0,4}(?:option |choice )?(?:\(([A-J])\)|([B-HJ])(?:[.:]|$))")
_SUBJECT = re.compile(r"(?i)\b(?:option|choice) \(?([A-J])\)?,?$")  # "answer to this, option C, is"
_AT_END = re.compile(r"(?i)(?:\b(?:is|are|be|was|it's|equals?|equal to)|=)(?: an?| the)? $|[(\"']$")
_JOINED = re.compile(r"(?i)(\w{1,20}),? (?:and|or|and/or) (?:the )?$")
_SINGLE = re.compile(r"(?<![\w'])([B-HJ])(?![\w'^=])")
_SELECT = re.compile(r"(?i)\b(?:select|choose|pick)\b[^.?!]{0,60}[.?!]?\s*$")  # "Select from A, B and C."
_STOP = re.compile(
    "the|a|an|of|in|to|is|are|it|its|would|will|be|also|and|or|that|this|there|for|on|at|by|with|do|does"
    "|they|which|what|who|one|can|you|tell|have|has|how|many|much|find|following|most|given|from|as"
)


def state(item: Item, text: str) -> Reading:
    """What `text`, free of boxes and tags, states."""
    text = _NUMBERING.sub("", without_latex(text))
    if labels := chosen(item, _whole(item, text)):
        return Reading(labels, "whole")
    lines = statements(text)
    last = [line for line in lines if not lists_options(line)][-cues.MOST_CUES :]
    options = [_option(item, line) for line in last]
    if len({*options} - {OPEN}) > 1:  # a list of options chooses none
        last = [line for line, option in zip(last, options, strict=True) if not option]
    # What follows the yes or no of a first sentence explains it.
    closing = [*last[:1], *filter(cues.CONCLUSION.search, last)] if polar.is_polar(item) else last
    for rule, stating in ((_stated, last), (polar.said, closing), (_concluded, closing)):
        for line in reversed(stating):
            if (stated := rule(item, line)) is not None:
                return Reading(chosen(item, stated), "sentence")
    if labels := chosen(item, _leading(item, text, lines)):
        return Reading(labels, "whole")
    refused = [line for line in lines if cues.REFUSAL.search(line)]
    cannot_tell = tuple(label for label, option in item.texts.items() if cues.CANNOT_TELL.search(option))
    about = [line for line in refused if restates(item, line) and not cues.REFUSES_HERSELF.search(line)]
    if len(cannot_tell) == 1 and about:
        return Reading(cannot_tell, "sentence")
    return Reading(how="refused" if refused else "nothing")


def statements(text: str) -> list[str]:
    """The sentences that may state an answer: no questions, and nobody else's answer."""
    return [one for one in sentences(text) if not one.endswith("?") and not cues.HEARSAY.search(one)]


def chosen(item: Item, labels: Labels) -> Labels:
    """Sorted, once each; none where a question with one answer gets several, but for `(D) A and C`."""
    found = tuple(sorted(set(labels)))
    if item.kind == "multi" or len(found) < 2:
        return found
    said = {label.lower() for label in found}
    return _only(label for label, text in item.texts.items() if set(words(text)) - {"and"} == said)


def _only(labels: Iterable[str]) -> Labels:
    found = tuple(labels)
    return found if len(found) == 1 else OPEN


def _whole(item: Item, text: str) -> Labels:
    """Of a reply that is a label, a list of labels or an option's text, and nothing else."""
    if len(text) <= _WHOLE and "\n" not in text:
        return alone(item, text)
    return OPEN if lists_options(text) or len(text) > 400 else _option(item, text)


def _option(item: Item, line: str) -> Labels:
    """The option that a line is: `(B)`, `(B) its text`, or its text alone."""
    label = listed_label(line)
    rest = words(re.sub(r"^\W{0,4}[A-Ja-j][).:]", "", line)) if label else words(line.strip(" ."))
    if label and label in item.labels and rest in ((), words(item.text_of(label))):
        return (label,)
    return _only(one for one, text in item.texts.items() if words(text) == rest)


def _stated(item: Item, line: str) -> Labels | None:
    """What a sentence with a cue states: "the answer is", "I would choose", "(B) is correct"."""
    if cues.NO_OPTION.search(line):
        return OPEN
    labels = _cued(item, line)
    if labels is None:
        labels = _option(item, line) or None
    return OPEN if labels and conditional(item, line) else labels


def _cued(item: Item, line: str) -> Labels | None:
    def denied(match: re.Match[str], reach: int) -> bool:
        return bool(cues.NEGATED.search(line[max(0, match.start() - reach) : match.start()]))

    for match in reversed(list(cues.ANNOUNCED.finditer(line))):
        before = line[max(0, match.start() - 24) : match.end()]
        if cues.NEGATED.search(match[0]) or cues.OTHER.search(before):
            continue
        if (subject := _SUBJECT.search((match["gap"] or "").strip())) and subject[1] in item.labels:
            return (subject[1],)
        if (labels := _announced(item, line[match.end() :])) is not None:
            return labels
    for match in reversed(list(cues.CHOSEN.finditer(line))):
        if not denied(match, 20) and (labels := _announced(item, line[match.end() :])) is not None:
            return labels
    for match in reversed(list(cues.JUDGED.finditer(line))):
        if not cues.NEGATED.search(match[0]) and not denied(match, 12):
            return label_set(match["label"] or match["chinese"], item)
    return _named(item, line) or None if cues.CORRECTION.match(line) else None


def _announced(item: Item, phrase: str) -> Labels | None:
    """What an announcement leads to; None where it names no option, OPEN where it leaves the answer open."""
    if cues.UNDECIDED.match(phrase.lstrip()):
        return OPEN
    if not cues.NEGATED.match(phrase.lstrip()) and (labels := label_set(phrase, item)):
        return labels
    foreign = _FOREIGN.match(phrase)
    if item.kind == "choice" and foreign and (foreign[1] or foreign[2]) not in item.labels:
        return OPEN
    said = words(phrase.lstrip(" :\"'"))
    texts = ((label, words(text)) for label, text in item.texts.items())
    opened = [label for label, own in texts if own and said[: len(own)] == own]  # "the answer is no, since"
    if opened:
        return (max(opened, key=lambda label: len(item.text_of(label))),)
    return None if cues.REFUSAL.search(phrase) else _named(item, phrase)


def _named(item: Item, line: str) -> Labels | None:
    """The options that a sentence names, those it denies or contrasts aside; of several the subject alone."""
    bare = cues.CONTRAST.sub(lambda found: " " * len(found[0]), line)
    found = [one for one in mentions(item, bare) if not _denied(line, one[0], one[1])]
    if not found:
        return None
    for start, _, named in found if item.kind == "choice" else ():
        joined = _JOINED.search(bare[max(0, start - 40) : start])  # "the second and third image"
        word = joined[1].casefold() if joined else ""
        if word not in words(item.text_of(named[0])) and any(word in words(text) for text in item.options):
            return OPEN
    labels = {label for _, _, named in found for label in named}
    if len(labels) > 1 and item.kind == "choice" and not cues.UNDECIDED.search(bare):
        subject = [one for one in found if one[0] <= found[0][1] + 12 and one[0] < _LEADING + found[0][1]]
        labels = {label for _, _, named in subject[:2] for label in named}
    return tuple(sorted(labels))


def _denied(line: str, start: int, end: int) -> bool:
    """Whether the option between `start` and `end` is rejected: in its clause, or right after it."""
    clause = max(line.rfind(mark, 0, start) for mark in ",;:") + 1
    return bool(
        cues.NEGATED.search(line[max(clause, start - 80) : start])
        or cues.NEGATED.search(line[end : end + 24].partition(",")[0])
    )


def _concluded(item: Item, line: str) -> Labels | None:
    """What a sentence states that concludes, or that says the question's own words of an option."""
    if cues.REFUSAL.search(line):
        return OPEN if cues.CONCLUSION.search(line) else None
    if polar.is_polar(item):
        return polar.meant(item, line)
    concludes = cues.CONCLUSION.search(line)
    if cues.OTHERS.match(line):
        return None
    if not concludes and (listed_label(line) or not restates(item, cues.CONTRAST.sub(" ", line))):
        return None
    if (ending := cues.ENDS_ON.search(line)) and ending[1] in item.labels:
        return (ending[1],)
    stating = line[concludes.start() :] if concludes else line
    labels = _named(item, stating)
    if labels and len(labels) > 2 and not concludes:  # a description of them
        return OPEN
    if not labels and concludes and item.options and restates(item, line):  # it concludes something else
        return OPEN
    if not labels and concludes and not item.options and (single := _SINGLE.findall(stating)):
        labels = tuple(one for one in single if one in item.labels)
    return OPEN if labels and (conditional(item, line) or cues.UNDECIDED.search(line)) else labels


def conditional(item: Item, line: str) -> bool:
    """Whether a sentence answers on a condition that the question does not make itself."""
    asked = stems(item.question) if cues.CONDITION.search(item.question) else set()
    conditions = (stems(found["what"]) for found in cues.CONDITION.finditer(line))
    return any(2 * len(own & asked) <= len(own) for own in conditions)


def restates(item: Item, line: str) -> bool:
    """Whether a sentence says at least half of what the question asks, the options' own words aside."""
    own = stems(_asked(item.question)) - {stem for option in item.options for stem in stems(option)}
    return bool(own) and len(own & stems(line)) >= len(own) / 2


def _asked(question: str) -> str:
    """The part of a question that asks: of its last sentence what follows "which" or "what"."""
    asked = _SELECT.sub("", question.partition("(A)")[0])
    last = [part for part in re.split(r"[.?!]", asked) if len(part.split()) > 1]
    return re.split(r"\b(?:which|what|who|whose)\b", last[-1], flags=re.IGNORECASE)[-1] if last else question


def stems(text: str) -> set[str]:
    """The beginnings of the words that carry meaning: "corresponding" and "corresponds" are one."""
    return {word[:6].rstrip("s") for word in words(text) if not _STOP.fullmatch(word) and word[:1].isalnum()}


def _leading(item: Item, text: str, lines: list[str]) -> Labels:
    """Of a reply whose first line is an option and nothing else, or whose only sentence ends on one."""
    if not lines or lists_options(text) or cues.REFUSAL.search(text[:400]):
        return OPEN
    first = lines[0].strip(" *#>")
    if labels := _option(item, first) or (alone(item, first) if len(first) <= 12 else OPEN):
        return labels
    if (label := listed_label(first)) and label in item.labels:
        return (label,)
    if (
        first[1:2] == " "
        and first[0] in item.labels
        and re.match(r". (?:is (?!\w+\.?$)|because|since|as)\b", first)
    ):
        return (first[0],)
    found = mentions(item, cues.CONTRAST.sub(" ", first)) if len(lines) == 1 else []
    if len(found) == 1 and _AT_END.search(first[: found[0][0]]) and not conditional(item, first):
        ends = not words(first[found[0][1] :].strip(" .)\"'"))
        return found[0][2] if ends and not _denied(first, *found[0][:2]) else OPEN
    return OPEN
