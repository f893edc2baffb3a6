"""What the two roles wrote, read strictly. Total on any string and linear in its length.

Model output is hostile text. Nothing here uses regular expressions: each step is a `str.find`/`str.rfind`
over the text or one forward walk whose cursor never moves back, so thousands of open tags or boxes cost no
more than the same length of prose.

A box (the Solver's answer):
    box    := head letter closers [mark]
    head   := any of `{`, a text command with its brace (`\\text{`, `\\mathrm{`, `\\textbf{` ...), and at most one `(`
    letter := one of A B C D a b c d (ASCII)
    closers := any of `}`; spaces may stand anywhere before the mark
    mark   := `)` after either kind of head, or `.` / `:` without a `(`, then anything - the option's text - that names no second option
So `b`, `\\text{C}`, `(A)`, `A) 3`, `A. 3` and `\\textbf{(B)}\\ 12` are letters. `AB`, `A 3`, `A.5`, `E`, `A)
3, B) 4` and words are not.
"""

from __future__ import annotations

from dataclasses import dataclass

OPTIONS = ("A", "B", "C", "D")
OPTION_MARKS = ("A)", "B)", "C)", "D)")

_LETTERS = "ABCDabcd"
_BOX = "\\boxed{"
_WRAPPERS = (
    "\\text{",
    "\\mathrm{",
    "\\textbf{",
    "\\mathbf{",
    "\\textrm{",
    "\\mbox{",
    "\\textit{",
    "\\mathit{",
    "\\textsf{",
    "\\mathsf{",
    "\\texttt{",
    "\\mathtt{",
    "\\textnormal{",
    "\\boldsymbol{",
)
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
)
_POCKET_ROLES = frozenset({"ask", "solve"})


@dataclass(frozen=True)
class Question:
    """What a Questioner wrote about one image.

    Attributes:
        description: stripped text of the description; "" where there was none (the paper does not require
            it).
        text: stripped text of the question, its four options included: what the Solver is asked.
        intuitive: "A".."D", the answer given without thinking.
    """

    description: str
    text: str
    intuitive: str


def parse_question(text: str) -> Question | None:
    """The question in a Questioner's reply; None unless it can be asked.

    Needs a question block holding all of `A)` `B)` `C)` `D)` and an answer block holding a capital A-D, the
    first of which counts. Tags are exact and lower-case. Text around them, their order, and a missing
    description do not matter. Of several blocks of one kind the first complete one counts, even when a later
    one would fit; of a tag opened several times before it closes, the last opening. A question or an answer
    with another part's tag inside is malformed: the Solver must not read the intuitive answer in its
    question.
    """
    question = _first_block(text, "question")
    answer = _first_block(text, "answer")
    if question is None or answer is None or any(tag in question or tag in answer for tag in _TAGS):
        return None
    if not all(mark in question for mark in OPTION_MARKS):
        return None
    intuitive = next((letter for letter in answer if letter in OPTIONS), None)
    if intuitive is None:
        return None
    return Question(_first_block(text, "description") or "", question, intuitive)


def parse_answer(text: str) -> str | None:
    """The option ("A".."D") in the last `\\boxed{}` after the last `</think>`; None when there is no such box
    or no letter in it.

    Without `</think>` the whole text counts. The last box decides alone: when it is unclosed, empty or no
    letter, an earlier good one does not stand in for it, and prose is never read. Of nested boxes the
    innermost of the last is the last.
    """
    thought = text.rfind("</think>")
    box = text.rfind(_BOX, max(thought, 0))
    if box < 0:
        return None
    start = box + len(_BOX)
    end = closing_brace(text, start)
    return None if end is None else _option(text[start:end])


def has_control_tokens(text: str, prompt_format: str = "natural") -> bool:
    """Whether `text` holds what would break the next prompt, so that a question with it counts as invalid.

    That is: a chat or vision token such as `<|im_end|>`, `<|image_pad|>`, `<image>` or `<eos>`, and a lone
    surrogate (it cannot be encoded, hence not tokenised). With prompt_format "pocket" also the role words
    "ask" and "solve", which are ordinary words in the natural one.
    """
    if any(token in text for token in _PLAIN_CONTROL) or _has_piped_token(text) or _has_surrogate(text):
        return True
    return prompt_format == "pocket" and not _POCKET_ROLES.isdisjoint(text.split())


def _first_block(text: str, tag: str) -> str | None:
    """Stripped text of the first complete `<tag>...</tag>`, from the last opening before its closing; None
    where there is none."""
    opening, closing = f"<{tag}>", f"</{tag}>"
    first = text.find(opening)
    if first < 0:
        return None
    end = text.find(closing, first + len(opening))
    if end < 0:
        return None
    start = text.rfind(opening, first, end) + len(opening)
    return text[start:end].strip()


def closing_brace(text: str, start: int) -> int | None:
    """Index of the brace that closes a group whose inside begins at `start`; a backslash takes the next
    character out of the count."""
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


def _option(box: str) -> str | None:
    """The one option that the inside of a box names, by the grammar atop this file."""
    cursor, bracketed = _skip_head(box)
    if cursor >= len(box) or box[cursor] not in _LETTERS:
        return None
    letter = box[cursor]
    cursor = _skip_closers(box, cursor + 1)
    if cursor >= len(box):
        return None if bracketed else letter.upper()
    mark, after = box[cursor], box[cursor + 1 : cursor + 2]
    if mark != ")" and (bracketed or mark not in ".:" or after.isalnum()):
        return None
    return None if _names_another(box, cursor + 1, letter, mark) else letter.upper()


def _skip_head(box: str) -> tuple[int, bool]:
    """(where the letter should stand, whether a bracket was opened): past spaces, wrappers and one `(`."""
    cursor, bracketed = 0, False
    while cursor < len(box):
        character = box[cursor]
        if character == "{" or character.isspace():
            cursor += 1
        elif character == "(" and not bracketed:
            cursor, bracketed = cursor + 1, True
        elif character == "\\" and (
            command := next((each for each in _WRAPPERS if box.startswith(each, cursor)), None)
        ):
            cursor += len(command)
        else:
            break
    return cursor, bracketed


def _skip_closers(box: str, cursor: int) -> int:
    """Past spaces and closing braces; the braces of a box balance, so each closes a wrapper of the head."""
    while cursor < len(box) and (box[cursor] == "}" or box[cursor].isspace()):
        cursor += 1
    return cursor


def _names_another(box: str, start: int, letter: str, mark: str) -> bool:
    """Whether a second option mark, of the same case and kind as the first, stands at a word's beginning from
    `start` on.

    `A) 3, B) 4` and `(A) or (B)` name two; in `A) P(B) = 1` the bracket belongs to a word, so that names one.
    """
    letters = "ABCD" if letter.isupper() else "abcd"
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


def _has_piped_token(text: str) -> bool:
    """Whether some `<|name|>` stands in `text`, the name being 1 to 64 characters without spaces, pipes or
    angle brackets."""
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
