"""What the two roles wrote, read strictly. Total on any string and linear in its length.

Model output is hostile text. Nothing here uses regular expressions: each step is a `str.find`/`str.rfind`
over the text or one walk whose cursor never turns, so thousands of open tags or boxes cost no more than the
same length of prose.

A box (the Solver's answer):
    box    := head letter closers [mark] head   := any of `{`, `$`, a text command with its brace (`\\text{`,
    `\\mathrm{`, `\\textbf{` ...), at most one
              word `Option`, and at most one `(`
    letter := one of A B C D a b c d, ASCII or full-width closers := any of `}`, and as many `$` as were
    opened; spaces may stand anywhere before the mark mark   := `)`; or without a `(` one of `.` `:`, or a
    dash between spaces; then anything - the option's text -
              that names no second option
So `b`, `\\text{C}`, `(A)`, `A) 3`, `A. 3`, `A - 3`, `$B$`, `\\text{Option B}` and `\\textbf{(B)}\\ 12` are
letters. `AB`, `A 3`, `A.5`, `A-3`, `E`, `A) 3, B) 4` and words are not.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

OPTIONS = ("A", "B", "C", "D")
OPTION_MARKS = ("A)", "B)", "C)", "D)")

_LETTERS = "ABCDabcd"
_FULL_WIDTH = {ord(letter) + 0xFEE0: letter for letter in _LETTERS}
_BOX, _OPTION, _DASHES = "\\boxed", "option", "-\u2013\u2014"
_COMMANDS = (
    *("text", "textbf", "textrm", "textit", "textsf", "texttt", "textnormal", "mbox"),
    *("mathrm", "mathbf", "mathit", "mathsf", "mathtt", "boldsymbol"),
)
_WRAPPERS = tuple(f"\\{name}{{" for name in _COMMANDS)
_TAGS = tuple(f"<{slash}{name}>" for name in ("description", "question", "answer") for slash in ("", "/"))
_LONGEST_CONTROL = 64
_PLAIN_CONTROL = (
    *("<pad>", "<bos>", "<eos>", "<unk>", "<s>", "</s>", "<img>", "</img>", "<image>", "<video>"),
    *("<end_of_utterance>", "<fake_token_around_image>", "<global-img>"),  # Idefics3, SmolVLM
    *(
        "<start_of_turn>",
        "<end_of_turn>",
        "<start_of_image>",
        "<end_of_image>",
        "<image_soft_token>",
    ),  # Gemma 3
    "<IMG_CONTEXT>",  # InternVL
    *("<tool_call>", "</tool_call>"),  # Qwen2.5: tokens of their own, though not special ones
    *("[INST]", "[/INST]", "[IMG]", "[IMG_BREAK]", "[IMG_END]"),  # Mistral, Pixtral
)
_TILE = re.compile(r"<row_\d+_col_\d+>")  # Idefics3, SmolVLM
_FULL_WIDTH_BARS = re.compile("<\uff5c[^<>]{1,64}\uff5c>")  # DeepSeek
_POCKET_ROLES = frozenset({"ask", "solve"})


@dataclass(frozen=True)
class Question:
    """What a Questioner wrote about one image.

    Attributes:
        description: stripped text of the description; "" where there was none (the paper does not require
        it). text: stripped text of the question, its four options included: what the Solver is asked.
        intuitive: "A".."D", the answer given without thinking.
    """

    description: str
    text: str
    intuitive: str


def parse_question(text: str) -> Question | None:
    """The question in a Questioner's reply; None unless it can be asked.

    Needs a question block holding all of `A)` `B)` `C)` `D)` and an answer block holding a capital A-D, the
    first of which counts. Tags are exact and lower-case; text around them, their order, and a missing
    description do not matter. Of several blocks of one kind the first complete one counts, of a tag opened
    several times before it closes the last opening. A question or an answer with another part's tag inside is
    malformed: the Solver must not read the intuitive answer in its question.
    """
    question = _first_block(text, "question")
    answer = _first_block(text, "answer")
    if question is None or answer is None or any(tag in question or tag in answer for tag in _TAGS):
        return None
    intuitive = next((letter for letter in answer if letter in OPTIONS), None)
    if intuitive is None or not all(mark in question for mark in OPTION_MARKS):
        return None
    return Question(_first_block(text, "description") or "", question, intuitive)


def parse_answer(text: str) -> str | None:
    """The option ("A".."D") in the last `\\boxed{}` after the last `</think>`; None without such a box or
    letter.

    Without `</think>` the whole text counts. The last box decides alone: when it is unclosed, empty or no
    letter, an earlier good one does not stand in for it, and prose is never read. Of nested boxes the
    innermost of the last is the last.
    """
    start = _last_box(text)
    end = None if start is None else closing_brace(text, start)
    return None if end is None else _option(text[start:end].translate(_FULL_WIDTH))


def has_control_tokens(text: str, prompt_format: str = "natural") -> bool:
    """Whether `text` holds what would break the next prompt, so that a question with it counts as invalid.

    That is a chat or vision token such as `<|im_end|>`, `<image>` or `<eos>`, and a lone surrogate (it cannot
    be encoded, hence not tokenised). With prompt_format "pocket" also the role words "ask" and "solve".
    """
    if any(token in text for token in _PLAIN_CONTROL) or _has_piped_token(text) or _has_surrogate(text):
        return True
    if _TILE.search(text) or _FULL_WIDTH_BARS.search(text):
        return True
    return prompt_format == "pocket" and not _POCKET_ROLES.isdisjoint(text.split())


def option_texts(question: str) -> tuple[str, ...] | None:
    """What stands behind A), B), C) and D) in a question, spaces around it included; None unless the marks
    stand in this order, each once."""
    starts = [question.find(mark) for mark in OPTION_MARKS]
    if min(starts) < 0 or starts != sorted(starts) or any(question.count(mark) != 1 for mark in OPTION_MARKS):
        return None
    ends = [*starts[1:], len(question)]
    return tuple(
        question[start + len(mark) : end] for start, mark, end in zip(starts, OPTION_MARKS, ends, strict=True)
    )


def closing_brace(text: str, start: int) -> int | None:
    """Index of the brace that closes a group whose inside begins at `start`; escaped braces do not count."""
    depth, escaped = 1, False
    for index in range(start, len(text)):
        character = text[index]
        if escaped:
            escaped = False
        elif character == "\\":
            escaped = True
        elif character == "{":
            depth += 1
        elif character == "}":
            depth -= 1
            if depth == 0:
                return index
    return None


def _first_block(text: str, tag: str) -> str | None:
    """Stripped text of the first complete `<tag>...</tag>`, from the last opening before its closing."""
    opening, closing = f"<{tag}>", f"</{tag}>"
    first = text.find(opening)
    if first < 0:
        return None
    end = text.find(closing, first + len(opening))
    if end < 0:
        return None
    start = text.rfind(opening, first, end) + len(opening)
    return text[start:end].strip()


def _last_box(text: str) -> int | None:
    """Where the inside of the last `\\boxed{` after the last `</think>` begins."""
    begin, end = max(text.rfind("</think>"), 0), len(text)
    while (box := text.rfind(_BOX, begin, end)) >= 0:
        cursor = _skip_spaces(text, box + len(_BOX))
        if text.startswith("{", cursor):
            return cursor + 1
        end = box
    return None


def _skip_spaces(text: str, cursor: int) -> int:
    while cursor < len(text) and text[cursor].isspace():
        cursor += 1
    return cursor


def _option(box: str) -> str | None:
    """The one option that the inside of a box names, by the grammar atop this file."""
    cursor, bracketed, dollars = _skip_head(box)
    if cursor >= len(box) or box[cursor] not in _LETTERS:
        return None
    letter = box[cursor]
    cursor, dollars = _skip_closers(box, cursor + 1, dollars)
    if dollars:
        return None
    if cursor >= len(box):
        return None if bracketed else letter.upper()
    mark, after, letters = box[cursor], box[cursor + 1 : cursor + 2], "ABCD" if letter.isupper() else "abcd"
    if mark == ")" or (mark in ".:" and not bracketed and not after.isalnum()):
        another = _marks_another(box, cursor + 1, letters, mark)
    elif mark in _DASHES and not bracketed and box[cursor - 1].isspace() and after.isspace():
        another = _dashes_another(box[cursor + 1 :].split(), letters)
    else:
        return None
    return None if another else letter.upper()


def _skip_head(box: str) -> tuple[int, bool, int]:
    """(where the letter should stand, whether a bracket was opened, how many `$` were)."""
    cursor, bracketed, named, dollars = 0, False, False, 0
    while cursor < len(box):
        character = box[cursor]
        if character in "{$" or character.isspace():
            cursor, dollars = cursor + 1, dollars + (character == "$")
        elif character == "(" and not bracketed:
            cursor, bracketed = cursor + 1, True
        elif command := next((each for each in _WRAPPERS if box.startswith(each, cursor)), None):
            cursor += len(command)
        elif not named and _is_option_word(box, cursor):
            cursor, named = cursor + len(_OPTION), True
        else:
            break
    return cursor, bracketed, dollars


def _is_option_word(box: str, cursor: int) -> bool:
    end = cursor + len(_OPTION)
    return box[cursor:end].lower() == _OPTION and box[end : end + 1].isspace()


def _skip_closers(box: str, cursor: int, dollars: int) -> tuple[int, int]:
    """(past spaces, braces and dollars of the head, all of which balance; how many dollars are still
    open)."""
    while cursor < len(box) and (
        box[cursor] == "}" or box[cursor].isspace() or (box[cursor] == "$" and dollars)
    ):
        dollars -= box[cursor] == "$"
        cursor += 1
    return cursor, dollars


def _marks_another(box: str, start: int, letters: str, mark: str) -> bool:
    """Whether another of `letters` with this mark stands at a word's beginning from `start` on.

    `A) 3, B) 4` and `(A) or (B)` name two; in `A) P(B) = 1` the bracket belongs to a word, so that names one.
    """
    at = box.find(mark, start)
    while at >= 0:
        before = at - 1
        if before >= start and box[before] in letters:
            before -= 1
            if box[before] == "(":
                before -= 1
            if not box[before].isalnum():
                return True
        at = box.find(mark, at + 1)
    return False


def _dashes_another(words: list[str], letters: str) -> bool:
    """Whether the words after a dash are another option (`A - B`) or name one (`A - 3, B - 4`)."""
    lone = [word in tuple(letters) for word in words]
    return lone == [True] or any(
        option and following in tuple(_DASHES) for option, following in zip(lone, words[1:], strict=False)
    )


def _has_piped_token(text: str) -> bool:
    """Whether some `<|name|>` stands in `text`: 1 to 64 characters but spaces, pipes and angle brackets."""
    start = text.find("<|")
    while start >= 0:
        end = text.find("|", start + 2, start + 3 + _LONGEST_CONTROL)
        if end > start + 2 and text.startswith("|>", end):
            name = text[start + 2 : end]
            if not any(character.isspace() or character in "<>" for character in name):
                return True
        start = text.find("<|", start + 2)
    return False


def _has_surrogate(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return True
    return False
