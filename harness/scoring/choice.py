"""The chosen labels in a response to a question with options."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable

from harness.scoring import layout, meaning
from harness.scoring.cues import (
    ANNOUNCED,
    CANNOT_TELL,
    CHOSEN,
    CONCLUSION,
    JUDGED,
    MOST_CUES,
    NAMED,
    NEGATED,
    NO_OPTION,
    OTHER,
    REFUSAL,
)
from harness.scoring.items import Extraction, Item
from harness.scoring.options import label_set
from harness.scoring.polar import polar
from harness.scoring.spans import answer_tag, boxes
from harness.scoring.text import ends, sentences, without_latex

_OF_OPTIONS = re.compile(
    r"(?:option|choice|figure|diagram|shape|box|label|letter|piece|cube|set|group)s? ", re.IGNORECASE
)
_ENDING = re.compile(
    r"\b(?:is|are|be|to|as) (?:therefore |thus |hence )?[\"']?([A-I])[\"']?(?: ?\([^()]{0,80}\))?[.!]?$"
)
_MENTION = re.compile(
    r"(?<![\w'.^])(?:([B-H])(?![\w'^=])|(?<=[a-z] )(A)(?= (?:is|are|was|will|would|has|can|does|and)\b|[,.;:)]|$))"
)
_CLOSING_LABEL = re.compile(r"[^()]{1,40} \(([A-I])\)\.?")  # "155 (A)"
_GAP_LABEL = re.compile(
    r" ?\(?[A-I]\)?(?: ?[-:,.(].{0,90})?"
)  # of "option B - its text is", "answer B is true"
_GAP_SUBJECT = re.compile(
    r"\b(?:option|choice) \(?([A-I])\)?$"
)  # of "answer your question, option C would be"
_HEDGE = re.compile(r", but\b|, not\b|, although\b")
_THAT = re.compile(r"^(?:that|as follows:?) ", re.IGNORECASE)
_ADDED = re.compile(
    r"\W{0,4}(?:option |choice )?(?:\(([A-J])\)(?!.{0,400}\n\()|([B-HJ])(?:[.:]|$))", re.DOTALL
)
_BEFORE_LIST = re.compile(r"[\"']?([A-I])[\"']? ?\(A\)")


def extract(item: Item, text: str, thinking: bool) -> Extraction:
    """The labels that `text` (plain, own turn) chooses."""
    if found := _marked(item, text):
        return found
    if thinking:
        return Extraction(how="cut off while thinking")
    text = ends(without_latex(text))
    if foreign := _foreign(item, text):
        return Extraction(how="another option", text=foreign)
    unfit = item.kind == "choice" and bool(NO_OPTION.search(text[-600:]))
    for how, rule in RULES:
        if unfit and how not in ("whole", "last line", "cue"):
            break
        if labels := _chosen(item, rule(item, text)):
            return Extraction(labels=labels, parsed=True, how=how)
    return Extraction(
        how="no option fits" if NO_OPTION.search(text) else "refused" if REFUSAL.search(text) else "nothing"
    )


def resolve(item: Item, phrase: str) -> tuple[str, ...]:
    """The labels a phrase that stands for an answer names: by letter, by the option's text, by its number."""
    phrase = phrase.strip()
    if labels := label_set(phrase, item):
        return labels
    for read in (meaning.same_text, polar, meaning.by_text, meaning.by_number, meaning.by_meaning):
        if label := read(phrase, item):
            return (label,)
    return ()


def _chosen(item: Item, labels: Iterable[str]) -> tuple[str, ...]:
    """Sorted; nothing where a question with one answer gets several: whoever lists the options has not
    chosen.

    Several labels that are one option's text (`(D) A and C`) are that option.
    """
    found = tuple(sorted(set(labels)))
    if len(found) > 1:
        said = [label.lower() for label in found]
        whole = [
            label
            for label in item.labels
            if [one for one in meaning.words(meaning.text_of(item, label)) if one != "and"] == said
        ]
        if len(whole) == 1:
            return (whole[0],)
    return () if item.kind == "choice" and len(found) > 1 else found


def _marked(item: Item, text: str) -> Extraction | None:
    """A box or an answer tag that names an option."""
    boxed = [label for inside in boxes(text) for label in resolve(item, without_latex(inside))]
    if labels := _chosen(item, boxed):
        return Extraction(labels=labels, parsed=True, how="box")
    inside = answer_tag(text)
    if inside is not None and (labels := _chosen(item, resolve(item, without_latex(inside)))):
        return Extraction(labels=labels, parsed=True, how="answer-tag")
    return None


def _whole(item: Item, text: str) -> Iterable[str]:
    """The response is an answer and nothing else; or an answer and then a copy of the options."""
    if not layout.LINE.match(text) and (label := meaning.same_text(text, item)):
        return (label,)
    if (before := _BEFORE_LIST.match(text)) and before[1] in item.labels:
        return (before[1],)
    return label_set(layout.unnumbered(text), item) if len(text) <= 40 and not layout.lists(text) else ()


def _leading(item: Item, text: str) -> Iterable[str]:
    """The response begins with `(B)`, `B.`, `B is` or an option's text before it goes on, and lists no
    other."""
    first, _, rest = layout.unnumbered(text).lstrip(layout.ORNAMENTS).partition("\n")
    if (closing := _CLOSING_LABEL.fullmatch(first)) and closing[1] in item.labels:
        return (closing[1],)
    if layout.lists(text):
        return ()
    if first[1:4] == " is" and first[0] in item.labels:
        return (first[0],)
    if len(first.strip(" .")) == 1 and not first[0].islower() and not layout.ALONE.search(rest):
        return label_set(first, item)
    if first[:1] in "([" or first[1:2] in (")", ".", ":"):
        return label_set(first, item)
    label = meaning.same_text(first, item) if not layout.copies_options(item, text) else None
    return (
        (label,) if label and not meaning.same_text(layout.unnumbered(rest).partition("\n")[0], item) else ()
    )


def _listed(item: Item, text: str) -> Iterable[str]:
    """For questions that may have several answers: a response that is nothing but labels, or options' texts,
    listed."""
    if item.kind != "multi":
        return ()
    lines = [
        layout.unnumbered(line)
        for line in (text.split("\n") if "\n" in text else text.split(", "))
        if line.strip(layout.ORNAMENTS)
    ]
    named = [meaning.same_text(line, item) for line in lines[:20]]
    if len(named) > 1 and all(named):
        return [label for label in named if label]
    bare = layout.NUMBERED.sub(" ", text)
    if len(bare) <= 400 and not (
        set(re.findall(r"[A-Za-z]{2,}", bare)) - {"and", "or", "select", "Select", "Set", "option", "Option"}
    ):
        return [
            label
            for label in re.findall(r"(?<![A-Z])[A-I1-9](?![A-Z])", bare.upper())
            if label in item.labels
        ]
    labels = [found.upper() for found in layout.BRACKETED.findall(text)]
    if text[:1] == "(" and len(labels) > 1 and labels == sorted(set(labels)):
        return [label for label in labels if label in item.labels]
    return ()


def _last_line(item: Item, text: str) -> Iterable[str]:
    """The label that stands alone on the last line, as prompts ask for it."""
    *before, last = text.rsplit("\n", 2)
    alone = len(last.strip(" .*()")) == 1 and not any(layout.ALONE.search(line) for line in before[-1:])
    return label_set(last, item) if before and alone else ()


def _cued(item: Item, text: str) -> Iterable[str]:
    """The last announced answer that names an option by its label; else the last that does so by its
    words."""
    by_words: Iterable[str] = ()
    for match in reversed(deque(ANNOUNCED.finditer(text), MOST_CUES)):
        gap = match["gap"] or ""
        if (
            _negates(item, match[0])
            or OTHER.search(match[0])
            or OTHER.search(text[max(0, match.start() - 24) : match.start()])
        ):
            continue
        if _GAP_LABEL.fullmatch(gap):  # "answer B is true" is a judgement
            continue
        if (subject := _GAP_SUBJECT.search(gap)) and subject[1] in item.labels:
            return (subject[1],)
        phrase = _phrase(text, match.end())
        if phrase.startswith("either ") or (item.kind == "choice" and len(layout.LINE.findall(phrase)) > 1):
            continue
        if labels := _chosen(item, label_set(phrase, item)):
            return labels
        sentence = next(sentences(phrase), "")
        if (said := meaning.by_text(sentence, item)) and CANNOT_TELL.search(meaning.text_of(item, said)):
            return (said,)
        sentence = _HEDGE.split(sentence)[0]
        if not by_words and not _negates(item, sentence) and not REFUSAL.search(sentence):
            by_words = _chosen(item, resolve(item, sentence))
            if (
                by_words
                and meaning.starts_with(_THAT.sub("", sentence), meaning.text_of(item, by_words[0]))
                and len(sentence.split()) > 2
            ):
                return by_words  # an option's own words say as much as its label
    for match in reversed(deque(CHOSEN.finditer(text), MOST_CUES)):
        if labels := _chosen(item, label_set(text[match.end() : match.end() + 60], item)):
            return labels
    return by_words


def _phrase(text: str, start: int) -> str:
    """What was announced: up to the next blank line, or after it."""
    phrase = text[start : start + 400]
    return phrase.split("\n\n", 1)[0] or phrase.lstrip()


def _foreign(item: Item, text: str) -> str | None:
    """The label of an option that the last announcement, or the whole response, adds to those there are: `(E)
    cannot be determined`."""
    if item.kind != "choice":
        return None
    last = deque(ANNOUNCED.finditer(text), 1)
    said = (
        _phrase(text, last[0].end())
        if last and not _negates(item, last[0][0])
        else text
        if len(text) < 60
        else ""
    )
    found = _ADDED.match(said)
    letter = (found[1] or found[2]) if found else None
    return letter if letter and letter not in item.labels else None


def _judged(item: Item, text: str) -> Iterable[str]:
    """`(B) is correct`: the last one that is not denied."""
    for match in reversed(deque(JUDGED.finditer(text), MOST_CUES)):
        denied = _negates(item, match[0]) or REFUSAL.search(text[max(0, match.start() - 120) : match.end()])
        if not denied and (labels := _chosen(item, label_set(match["label"] or match["chinese"], item))):
            return labels
    return ()


def _named(item: Item, text: str) -> Iterable[str]:
    """The only label, or list of labels, that is named at all: `Figure B`, `(B)`; denied ones do not
    count."""
    found = set()
    for sentence in sentences(text):
        for match in (*NAMED.finditer(sentence), *layout.BRACKETED.finditer(sentence)):
            start = match.start() if match[0][0] == "(" else match.end()
            if not _denied(item, sentence, start):
                found.add(label_set(sentence[start:], item, noun=_OF_OPTIONS.match(match[0]) is not None))
    found.discard(())
    return found.pop() if len(found) == 1 else ()


def _restated(item: Item, text: str) -> Iterable[str]:
    """The label, or list of labels, of the sentence that looks most like the answer; denied ones do not
    count."""
    for sentence in _answering(item, text):
        labels = {
            label
            for match in (*NAMED.finditer(sentence), *layout.BRACKETED.finditer(sentence))
            if not _denied(item, sentence, start := match.start() if match[0][0] == "(" else match.end())
            for label in label_set(sentence[start:], item, noun=_OF_OPTIONS.match(match[0]) is not None)
        }
        if labels:
            return labels
    return ()


def _denied(item: Item, sentence: str, start: int) -> bool:
    """Whether the label at `start` is rejected: by a word of its clause before it, or right after it."""
    clause = max(sentence.rfind(mark, 0, start) for mark in ",;:") + 1
    return _negates(item, sentence[max(clause, start - 80) : start]) or _negates(
        item, sentence[start : start + 24]
    )


def _negates(item: Item, text: str) -> bool:
    """Whether a word rejects what stands there: one that the question itself does not hold ("which is not
    ...")."""
    asked = item.question.partition("A)")[0].casefold()
    return any(found[0].casefold() not in asked for found in NEGATED.finditer(text))


def _mentioned(item: Item, text: str) -> Iterable[str]:
    """The labels of the first sentence with bare ones, where the options stand in the image: `cog B will
    turn`."""
    if item.kind != "multi" or any(len(choice) > 1 for choice in item.options[:2]):
        return ()
    for sentence in sentences(layout.NUMBERED.sub("", text)):
        labels = {match[1] or match[2] for match in _MENTION.finditer(sentence)} & set(item.labels)
        if labels and not _negates(item, sentence):
            return labels
    return ()


def _ending(item: Item, text: str) -> Iterable[str]:
    """The last sentence that ends on a label: `the missing shape is B.`"""
    for sentence in reversed(list(sentences(text))):
        if (match := _ENDING.search(sentence)) and match[1] in item.labels and not _negates(item, sentence):
            return (match[1],)
    return ()


def _words(item: Item, text: str) -> Iterable[str]:
    """The option that the sentence which answers comes to: by its words, its number, or as a yes or no."""
    if not item.options:
        return ()
    for sentence in _polar_first(item, text):
        if label := polar(sentence, item):
            return (label,)
    for sentence in _answering(item, text):
        label = (
            polar(sentence, item) or meaning.by_meaning(sentence, item) or meaning.by_number(sentence, item)
        )
        if label:
            return (label,)
    return ()


def _polar_first(item: Item, text: str) -> list[str]:
    """Of a yes-or-no answer its conclusion and its first sentence: what follows explains."""
    lines = [line for line in sentences(text) if not layout.copies_option(item, line)]
    concluding = [line for line in lines if CONCLUSION.search(line)]
    return [] if any(map(REFUSAL.search, (*concluding[-1:], *lines[:1]))) else [*concluding[-1:], *lines[:1]]


def _answering(item: Item, text: str) -> list[str]:
    """Sentences in the order of how much they look like the answer: they conclude, restate the question, come
    last, come first."""
    lines = [line for line in sentences(text) if not layout.copies_option(item, line)]
    asked = set(meaning.words(item.question))
    rated = []
    for position, line in enumerate(lines):
        if REFUSAL.search(line):
            if position == 0 or CONCLUSION.search(line):
                return []
            continue
        overlap = len(asked.intersection(meaning.words(line))) / max(1, len(asked))
        rating = (
            overlap
            + 0.8 * bool(CONCLUSION.search(line))
            + 0.4 * (position == len(lines) - 1)
            + 0.3 * (position == 0)
        )
        rated.append((rating, position, line))
    return [line for _, _, line in sorted(rated, reverse=True)[:3]]


def _cannot_tell(item: Item, text: str) -> Iterable[str]:
    """A refusal chooses the option that says one cannot tell, where there is one."""
    offered = [
        label for label, choice in zip(item.labels, item.options, strict=False) if CANNOT_TELL.search(choice)
    ]
    own = "\n".join(line for line in sentences(text) if not layout.copies_option(item, line))
    return offered if len(offered) == 1 and REFUSAL.search(own) else ()


RULES = (
    ("whole", _whole),
    ("listed", _listed),
    ("last line", _last_line),
    ("cue", _cued),
    ("judged", _judged),
    ("leading", _leading),
    ("named", _named),
    ("ending", _ending),
    ("words", _words),
    ("restated", _restated),
    ("mention", _mentioned),
    ("cannot tell", _cannot_tell),
)
