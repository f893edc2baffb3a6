"""The label that a response states for a question with options: by its final-answer sentence, or by being
nothing but a label or an option's text. Other prose is never read."""

from __future__ import annotations

import re

from harness.scoring.cues import (
    ANNOUNCED,
    CANNOT_TELL,
    CHOSEN,
    CONCLUSION,
    CONDITION,
    CONTRAST,
    CORRECTION,
    ENDS_ON,
    JUDGED,
    MOST_CUES,
    NEGATED,
    NO_OPTION,
    OTHER,
    OTHERS,
    REFUSAL,
    REFUSES_HERSELF,
    UNDECIDED,
)
from harness.scoring.items import Item
from harness.scoring.labels import label_set, listed_label, lists_options, mentions, resolve, words
from harness.scoring.polar import is_polar, polar, said
from harness.scoring.text import sentences, without_latex

Labels = tuple[str, ...]
# A sentence that should state the answer and leaves it open; None stands for one about other things.
OPEN: Labels = ()
_WHOLE, _LEADING = 40, 24  # characters of a reply that is a label alone; of what may stand before a subject
_NUMBERING = re.compile(r"(?m)^\d{1,2}[.)] ?(?=[^\s\d])")
_FOREIGN = re.compile(r"\W{0,4}(?:option |choice )?(?:\(([A-J])\)|([B-HJ])(?:[.:]|$))")
_SUBJECT = re.compile(
    r"\b(?:option|choice) \(?([A-I])\)?,?$", re.IGNORECASE
)  # "answer to this, option C, is"
_AT_END = re.compile(
    r"(?:\b(?:is|are|be|was|it's|equals?|equal to)|=)(?: an?| the)? $|[(\"']$", re.IGNORECASE
)
_SINGLE = re.compile(r"(?<![\w'])([B-HJ])(?![\w'^=])")
_STOP = re.compile(
    "the|a|an|of|in|to|is|are|it|its|would|will|be|also|and|or|that|"
    "this|there|for|on|at|by|with|do|does|they|which|what|who|one|can|"
    "you|tell|have|has|how|many|much|find|following|most|given|from|as"
)


def state(item: Item, text: str) -> tuple[Labels, str]:
    """(labels, rule) that `text`, free of boxes and tags, states; (OPEN, why) where it states none."""
    text = _NUMBERING.sub("", without_latex(text))
    if labels := chosen(item, _whole(item, text)):
        return labels, "whole"
    lines = [line for line in sentences(text) if not line.endswith("?")]
    last = [line for line in lines if not lists_options(line)][-MOST_CUES:]
    if (
        len({labels for line in last if (labels := _option(item, line))}) > 1
    ):  # a list of options chooses none
        last = [line for line in last if not _option(item, line)]
    # What follows the yes or no of a first sentence explains it.
    closing = [*last[:1], *filter(CONCLUSION.search, last)] if is_polar(item) else last
    for rule, stating in ((_stated, last), (_said, closing), (_concluded, closing)):
        for line in reversed(stating):
            labels_or_none = rule(item, line)
            if labels_or_none is not None:
                return chosen(item, labels_or_none), "sentence"
    if labels := chosen(item, _leading(item, text, lines)):
        return labels, "whole"
    refused = [line for line in lines if REFUSAL.search(line)]
    offered = [label for label in item.labels if CANNOT_TELL.search(item.text_of(label))]
    if len(offered) == 1 and any(
        _restates(item, line) and not REFUSES_HERSELF.search(line) for line in refused
    ):
        return (offered[0],), "sentence"
    return OPEN, "refused" if refused else "nothing"


def chosen(item: Item, labels: Labels) -> Labels:
    """Sorted, once each; none where a question with one answer gets several, but for `(D) A and C`."""
    found = tuple(sorted(set(labels)))
    if item.kind == "multi" or len(found) < 2:
        return found
    said = {label.lower() for label in found}
    whole = [label for label in item.labels if set(words(item.text_of(label))) - {"and"} == said]
    return tuple(whole) if len(whole) == 1 else OPEN


def _whole(item: Item, text: str) -> Labels:
    """Of a reply that is a label, a list of labels or an option's text, and nothing else."""
    if len(text) <= _WHOLE and "\n" not in text:
        return resolve(item, text)
    return OPEN if lists_options(text) or len(text) > 400 else _option(item, text)


def _option(item: Item, line: str) -> Labels:
    """The option that a line is: `(B)`, `(B) its text`, or its text alone."""
    label = listed_label(line)
    rest = words(re.sub(r"^\W{0,4}[A-Ia-i][).:]", "", line)) if label else words(line.strip(" ."))
    if label in item.labels and (not rest or rest == words(str(label and item.text_of(label)))):
        return (str(label),)
    named = [one for one in item.labels if item.text_of(one) and words(item.text_of(one)) == rest]
    return tuple(named) if len(named) == 1 else OPEN


def _stated(item: Item, line: str) -> Labels | None:
    """What a sentence with a cue states: "the answer is", "I would choose", "(B) is correct", "Wait, it is
    B"."""
    if NO_OPTION.search(line):
        return OPEN
    labels = _cued(item, line)
    if labels is None and (option := _option(item, line)):
        labels = option
    return OPEN if labels and _conditional(item, line) else labels


def _said(item: Item, line: str) -> Labels | None:
    """The yes or no that a sentence begins with, where these are the options."""
    label = said(line, item)
    return (label,) if label else None


def _cued(item: Item, line: str) -> Labels | None:
    for match in reversed(list(ANNOUNCED.finditer(line))):
        before = line[max(0, match.start() - 24) : match.end()]
        if NEGATED.search(match[0]) or OTHER.search(before):
            continue
        if (subject := _SUBJECT.search((match["gap"] or "").strip())) and subject[1] in item.labels:
            return (subject[1],)
        if (labels := _announced(item, line[match.end() :])) is not None:
            return labels
    for match in reversed(list(CHOSEN.finditer(line))):
        denied = NEGATED.search(line[max(0, match.start() - 20) : match.start()])
        if not denied and (labels := _announced(item, line[match.end() :])) is not None:
            return labels
    for match in reversed(list(JUDGED.finditer(line))):
        if not NEGATED.search(match[0]) and not NEGATED.search(
            line[max(0, match.start() - 12) : match.start()]
        ):
            return label_set(match["label"] or match["chinese"], item)
    return _named(item, line) or None if CORRECTION.match(line) else None


def _announced(item: Item, phrase: str) -> Labels | None:
    """What an announcement leads to; None where it names no option, OPEN where it leaves the answer open."""
    if UNDECIDED.match(phrase.lstrip()):
        return OPEN
    if not NEGATED.match(phrase.lstrip()) and (labels := label_set(phrase, item)):
        return labels
    foreign = _FOREIGN.match(phrase)
    if item.kind == "choice" and foreign and (foreign[1] or foreign[2]) not in item.labels:
        return OPEN
    said = words(phrase.lstrip(" :\"'"))
    begun = [  # "the answer is no, since"
        label
        for label in item.labels
        if words(item.text_of(label)) and said[: len(own := words(item.text_of(label)))] == own
    ]
    if begun:
        return (max(begun, key=lambda label: len(item.text_of(label))),)
    return None if REFUSAL.search(phrase) else _named(item, phrase)


def _named(item: Item, line: str) -> Labels | None:
    """The options that a sentence names, those it denies or contrasts aside; of several the subject alone."""
    bare = CONTRAST.sub(lambda found: " " * len(found[0]), line)
    found = [one for one in mentions(item, bare) if not _denied(line, one[0], one[1])]
    if not found:
        return None
    labels = {label for _, _, named in found for label in named}
    if len(labels) > 1 and item.kind == "choice" and not UNDECIDED.search(bare):
        subject = [one for one in found if one[0] <= found[0][1] + 12 and one[0] < _LEADING + found[0][1]]
        labels = {label for _, _, named in subject[:2] for label in named}
    return tuple(sorted(labels))


def _denied(line: str, start: int, end: int) -> bool:
    """Whether the option between `start` and `end` is rejected: in its clause before it, or right after
    it."""
    clause = max(line.rfind(mark, 0, start) for mark in ",;:") + 1
    return bool(
        NEGATED.search(line[max(clause, start - 80) : start])
        or NEGATED.search(line[end : end + 24].partition(",")[0])
    )


def _concluded(item: Item, line: str) -> Labels | None:
    """What a sentence states that concludes, or that says the question's own words of an option."""
    if REFUSAL.search(line):
        return OPEN if CONCLUSION.search(line) else None
    if is_polar(item):
        label = polar(line, item)
        return (label,) if label else None
    concludes = CONCLUSION.search(line)
    if OTHERS.match(line):
        return None
    if (listed_label(line) and not concludes) or not (concludes or _restates(item, CONTRAST.sub(" ", line))):
        return None
    if (ending := ENDS_ON.search(line)) and ending[1] in item.labels:
        return (ending[1],)
    labels = _named(item, line[concludes.start() :] if concludes else line)
    if (
        not labels
        and concludes
        and not item.options
        and (single := _SINGLE.findall(line[concludes.start() :]))
    ):
        labels = tuple(one for one in single if one in item.labels)
    return OPEN if labels and (_conditional(item, line) or UNDECIDED.search(line)) else labels


def _conditional(item: Item, line: str) -> bool:
    """Whether a sentence answers on a condition that the question does not make itself."""
    return bool(CONDITION.search(line)) and not CONDITION.search(item.question)


def _restates(item: Item, line: str) -> bool:
    """Whether a sentence says at least half of what the question asks, the options' own words aside."""
    own = stems(asked(item.question)) - {stem for option in item.options for stem in stems(option)}
    return bool(own) and len(own & stems(line)) >= len(own) / 2


def asked(question: str) -> str:
    """The part of a question that asks: of its last sentence what follows "which" or "what"."""
    last = [part for part in re.split(r"[.?!]", question.partition("(A)")[0]) if len(part.split()) > 1]
    return re.split(r"\b(?:which|what|who|whose)\b", last[-1], flags=re.IGNORECASE)[-1] if last else question


def stems(text: str) -> set[str]:
    """The beginnings of the words that carry meaning: "corresponding" and "corresponds" are one."""
    return {word[:6].rstrip("s") for word in words(text) if not _STOP.fullmatch(word) and word[:1].isalnum()}


def _leading(item: Item, text: str, lines: list[str]) -> Labels:
    """Of a reply whose first line is an option and nothing else, or whose only sentence ends on one."""
    if not lines or lists_options(text) or REFUSAL.search(text[:400]):
        return OPEN
    first = lines[0].strip(" *#>")
    if labels := _option(item, first) or (resolve(item, first) if len(first) <= 12 else OPEN):
        return labels
    if (label := listed_label(first)) and label in item.labels:
        return (label,)
    if first[1:2] == " " and first[0] in item.labels and re.match(r". (?:is|because|since|as)\b", first):
        return (first[0],)
    found = mentions(item, CONTRAST.sub(" ", first)) if len(lines) == 1 else []
    if len(found) == 1 and _AT_END.search(first[: found[0][0]]) and not _conditional(item, first):
        ends = not words(first[found[0][1] :].strip(" .)\"'"))
        return found[0][2] if ends and not _denied(first, *found[0][:2]) else OPEN
    return OPEN
