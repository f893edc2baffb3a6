"""The chosen labels in a response to a question with options."""

from __future__ import annotations

import re
from collections.abc import Iterable

from harness.scoring import options
from harness.scoring.cues import ANNOUNCED, CHOSEN, CONCLUSION, JUDGED, NAMED, NEGATED, NO_OPTION, REFUSAL
from harness.scoring.items import Extraction, Item
from harness.scoring.numerals import numbers
from harness.scoring.spans import answer_tag, boxes
from harness.scoring.text import sentences, without_latex

_BRACKETED = re.compile(r"\( ?([A-Ia-i1-9]) ?\)")
_ENDING = re.compile(r"\b(?:is|are|be|to|as) (?:therefore |thus |hence )?[\"']?([A-I])[\"']?(?: ?\([^()]{0,80}\))?[.!]?$")
_LINE = re.compile(r"(?:^|\n)[\"'>*# ]{0,4}(?:\(([A-Ia-i])\)|([A-Ia-i])\)|([A-I])[.:])(?= ?[^\s])")


def extract(item: Item, text: str, thinking: bool) -> Extraction:
    """The labels that `text` (plain, own turn) chooses."""
    if found := _marked(item, text):
        return found
    if thinking:
        return Extraction(how="cut off while thinking")
    text = without_latex(text)
    for how, rule in RULES:
        if labels := _chosen(item, rule(item, text)):
            return Extraction(labels=labels, parsed=True, how=how)
    return Extraction(how="no option fits" if NO_OPTION.search(text) else "refused" if REFUSAL.search(text) else "nothing")


def resolve(item: Item, phrase: str) -> tuple[str, ...]:
    """The labels a phrase that stands for an answer names: by letter, by the option's text, by its number."""
    phrase = phrase.strip()
    if labels := options.label_set(phrase, item):
        return labels
    label = options.by_text(phrase, item) or _same_number(item, phrase) or options.by_stem(phrase, item)
    return (label,) if label else ()


def _chosen(item: Item, labels: Iterable[str]) -> tuple[str, ...]:
    """Sorted; nothing where a question with one answer gets several: whoever lists the options has not chosen."""
    found = tuple(sorted(set(labels)))
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
    """The response is an answer and nothing else, or begins with `(B)` / `B.` / the option's text before it goes on."""
    said = options.words(text[:2000])
    exact = [label for label, choice in zip(item.labels, item.choices, strict=False) if said and options.words(choice) == said]
    if len(exact) == 1:
        return exact
    if (lines := {(m[1] or m[2] or m[3]).upper() for m in _LINE.finditer(text)}) and len(lines) > 1 or len(_BRACKETED.findall(text)) > 1:
        return ()
    if len(text) <= 40 and (labels := options.label_set(text, item)):
        return labels
    first = text.split("\n", 1)[0]
    return options.label_set(first, item) if first[:1] in "([" or first[1:2] in ").:" else ()


def _listed(item: Item, text: str) -> Iterable[str]:
    """For questions that may have several answers: a response that is nothing but options, listed."""
    if item.kind != "multi-choice":
        return ()
    labels = [found.upper() for found in _BRACKETED.findall(text)]
    if text[:1] == "(" and len(labels) > 1 and labels == sorted(set(labels)):
        return [label for label in labels if label in item.labels]
    return ()


def _cued(item: Item, text: str) -> Iterable[str]:
    """The last announced answer that names an option by its label; else the last that does so by its words."""
    by_label: Iterable[str] = ()
    by_words: Iterable[str] = ()
    for match in (*ANNOUNCED.finditer(text), *CHOSEN.finditer(text)):
        if NEGATED.search(match[0]):
            continue
        phrase = text[match.end() : match.end() + 400].split("\n\n", 1)[0]
        by_label = _chosen(item, options.label_set(phrase, item)) or by_label
        sentence = next(sentences(phrase), "")
        if not by_label and not NEGATED.search(sentence) and not REFUSAL.search(sentence):
            by_words = _chosen(item, resolve(item, sentence)) or by_words
    return by_label or by_words


def _judged(item: Item, text: str) -> Iterable[str]:
    """`(B) is correct`: the last one that is not denied."""
    found: Iterable[str] = ()
    for match in JUDGED.finditer(text):
        if not NEGATED.search(match[0]):
            found = _chosen(item, options.label_set(match["label"] or match["chinese"], item)) or found
    return found


def _named(item: Item, text: str) -> Iterable[str]:
    """The only label, or list of labels, that is named at all: `Figure B`, `(B)`; denied ones do not count."""
    found = set()
    for sentence in sentences(text):
        if NEGATED.search(sentence):
            continue
        for match in NAMED.finditer(sentence):
            found.add(options.label_set(sentence[match.end() :], item))
        for match in _BRACKETED.finditer(sentence):
            found.add(options.label_set(match[0], item))
    found.discard(())
    return found.pop() if len(found) == 1 else ()


def _ending(item: Item, text: str) -> Iterable[str]:
    """The last sentence that ends on a label: `the missing shape is B.`"""
    for sentence in reversed(list(sentences(text))):
        if (match := _ENDING.search(sentence)) and match[1] in item.labels and not NEGATED.search(sentence):
            return (match[1],)
    return ()


def _words(item: Item, text: str) -> Iterable[str]:
    """The option whose words the conclusion, or else the last sentence, or else the first one repeats."""
    if not item.choices or NO_OPTION.search(text):
        return ()
    lines = list(sentences(text))
    concluding = [line for line in lines if CONCLUSION.search(line)]
    for line in (*concluding[:-4:-1], *lines[:-3:-1], *lines[:1]):
        if REFUSAL.search(line):
            return ()
        if label := options.by_text(line, item) or options.by_stem(line, item):
            return (label,)
    return ()


def _number(item: Item, text: str) -> Iterable[str]:
    """The option that is the last number stated."""
    if not item.choices or NO_OPTION.search(text):
        return ()
    for sentence in reversed(list(sentences(text))):
        if REFUSAL.search(sentence):
            return ()
        if numbers(sentence):
            label = _same_number(item, sentence)
            return (label,) if label else ()
    return ()


def _same_number(item: Item, phrase: str) -> str | None:
    """The one option whose only number is the last number of the phrase."""
    said = numbers(phrase)
    if not said:
        return None
    named = []
    for label, choice in zip(item.labels, item.choices, strict=False):
        own = numbers(choice)
        if len(own) == 1 and float(own[0][0]) == float(said[-1][0]):
            named.append(label)
    return named[0] if len(named) == 1 else None


RULES = (
    ("whole", _whole),
    ("listed", _listed),
    ("cue", _cued),
    ("judged", _judged),
    ("named", _named),
    ("ending", _ending),
    ("text", _words),
    ("number", _number),
)
