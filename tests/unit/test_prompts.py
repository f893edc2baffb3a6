"""What the roles are told and how their replies are read: tables worked by hand, hostile text, round
trips."""

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vzero.errors import InputError
from vzero.prompts import (
    Question,
    has_control_tokens,
    parse_answer,
    parse_question,
    questioner_messages,
    solver_messages,
)

ASKED = "how many red ? A) 1 B) 2 C) 3 D) 4"
GOOD = f"<description> shapes red circle </description> <question> {ASKED} </question> <answer> 2 B </answer>"
PARSED = Question("shapes red circle", ASKED, "B")
OPTIONS = "A) 1 B) 2 C) 3 D) 4"


def reply(question=f"Q {OPTIONS}", answer="C", description="d"):
    parts = {"description": description, "question": question, "answer": answer}
    return "\n".join(f"<{tag}>{text}</{tag}>" for tag, text in parts.items())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (GOOD, PARSED),
        (f"Sure! {GOOD} Hope that helps.", PARSED),
        (reply(f"\n What?\n{OPTIONS}\n", " (C) "), Question("d", f"What?\n{OPTIONS}", "C")),
        (
            f"<question>Q {OPTIONS}</question><answer>D</answer>",
            Question("", f"Q {OPTIONS}", "D"),
        ),  # no description: still a question
        (f"<answer>D</answer><question>Q {OPTIONS}</question>", Question("", f"Q {OPTIONS}", "D")),
        (
            f"<description>open<question>Q {OPTIONS}</question><answer>D</answer>",
            Question("", f"Q {OPTIONS}", "D"),
        ),
        (
            reply("Which (A) x (B) y (C) z (D) w", "the answer is B or A"),
            Question("d", "Which (A) x (B) y (C) z (D) w", "B"),
        ),
        (reply("D) 4 C) 3 B) 2 A) 1"), Question("d", "D) 4 C) 3 B) 2 A) 1", "C")),
        (reply(answer="E F G then D"), Question("d", f"Q {OPTIONS}", "D")),
        (reply(description="a < b > c"), Question("a < b > c", f"Q {OPTIONS}", "C")),
        (reply(f"\0 {OPTIONS} \ud800"), Question("d", f"\0 {OPTIONS} \ud800", "C")),
        (GOOD + reply("other " + OPTIONS, "D", "e"), PARSED),  # the first complete block of each kind counts
        (f"</question></answer>{GOOD}</question>", PARSED),
        (
            f"<question><question> {ASKED} </question></question><answer><answer>A</answer>",
            Question("", ASKED, "A"),
        ),
    ],
)
def test_questions_that_can_be_asked(text, expected):
    assert parse_question(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "plain prose",
        "<question></question><answer>A</answer>",
        reply(answer=""),
        reply(answer="b"),
        reply(answer="E"),
        reply(answer="none"),
        reply(answer="\uff21"),
        reply("Q A) 1 B) 2 C) 3"),
        reply("Q A) 1 B) 2 D) 3"),
        reply("Q A. 1 B. 2 C. 3 D. 4"),
        reply("Q a) 1 b) 2 c) 3 d) 4"),
        reply("  "),
        f"<question>Q {OPTIONS}</question>",
        "<answer>A</answer>",
        f"<question>Q {OPTIONS}<answer>A</answer>",  # never closed
        f"<question>Q {OPTIONS}</question><answer>A",
        f"<Question>Q {OPTIONS}</Question><answer>A</answer>",
        f"<question >Q {OPTIONS}</question><answer>A</answer>",
        f"<question></question>{GOOD}",  # the first block counts even where a later one would fit
        f"<answer>none</answer>{GOOD}",
        # the inner question lacks a mark
        "<question>Q A) 1 <question> B) 2 C) 3 D) 4</question><answer>A</answer>",
        reply(f"Q {OPTIONS} <answer>A</answer>"),  # the Solver would read the intuitive answer
        reply(f"Q {OPTIONS} <description>"),
        f"<answer><question>Q {OPTIONS}</question></answer>",
    ],
)
def test_questions_that_cannot(text):
    assert parse_question(text) is None


@pytest.mark.parametrize(
    ("inside", "letter"),
    [
        ("B", "B"),
        ("b", "B"),
        (" B ", "B"),
        ("\nD\n", "D"),
        ("{B}", "B"),
        ("{{ c }}", "C"),
        (r"\text{C}", "C"),
        (r"\text{ c }", "C"),
        (r"\mathrm{B}", "B"),
        (r"\textbf{D}", "D"),
        (r"\mathbf{\text{A}}", "A"),
        (r"\text{(A)}", "A"),
        ("(A)", "A"),
        ("( a )", "A"),
        ("(A) 3", "A"),
        (r"(\text{A})", "A"),
        (r"\textbf{(B)}\ 12", "B"),
        (r"\textbf{(B)} \frac{1}{2}", "B"),
        ("A)", "A"),
        ("A) 3", "A"),
        ("A)3", "A"),
        ("d) red circle", "D"),
        (r"\text{A) 3}", "A"),
        (r"\text{A}) 3", "A"),
        (r"A) \text{red}", "A"),
        ("A.", "A"),
        ("A. 3", "A"),
        ("A: 3", "A"),
        (r"\text{B. } 5", "B"),
        ("A) P(B) = 0.3", "A"),
        ("C) Vitamin D", "C"),
        ("A) b) c)", "A"),
        ("a) B) C)", "A"),
        ("A) {x} \\} y", "A"),
        ("B) A triangle", "B"),
        ("B - 12", "B"),
        ("b - red circle", "B"),
        ("C \u2013 A triangle", "C"),
        (r"\text{B} - 12", "B"),
        ("A - 3 - 1", "A"),
        ("$B$", "B"),
        (r"$\text{c}$", "C"),
        ("$$ D $$", "D"),
        ("$A$) 3", "A"),
        (r"\text{Option B}", "B"),
        ("Option (C)", "C"),
        ("option d: red", "D"),
        ("Option A", "A"),
        ("\uff22", "B"),
        ("\\text{\uff44}", "D"),
    ],
)
def test_boxes_that_name_an_option(inside, letter):
    assert parse_answer(f"\\boxed{{{inside}}}") == letter
    assert parse_answer(f"<think> so \\boxed{{E}} </think> The answer is \\boxed{{{inside}}}.") == letter


@pytest.mark.parametrize(
    "inside",
    [
        "",
        " ",
        "AB",
        "E",
        "e",
        "3",
        "ABCD",
        "A B",
        "A, B",
        "A and B",
        "A or B",
        "A/B",
        "A 3",
        "A=3",
        "A.5",
        "A:5",
        "a.m.",
        "none",
        "Answer: B",
        "Options B",
        "Option",
        "Option AB",
        "Option Option B",
        "OptionB",
        "Option A and Option B",
        "the answer is B",
        "A) 3, B) 4",
        "A)B)",
        "(A) or (B)",
        "(A)(B)",
        "A. 3 B. 4",
        "(A",
        "(A.",
        "((A))",
        ")A(",
        "[A]",
        "$A",
        "A$",
        "$A$ + 1",
        "$A$$",
        "\\$A\\$",
        "A-3",
        "A -3",
        "A - B",
        "A - 3, B - 4",
        "(A - 3",
        "A \u2212 3",
        "**A**",
        "'A'",
        r"\text{AB}",
        r"\text{A}B",
        r"\text{A}\text{B}",
        r"\text{}A",
        r"{}B",
        r"\frac{A}{B}",
        r"\text{Option AB}",
        r"\unknown{A}",
        r"\text",
        "\\",
        "\\}",
        "\uff21\uff22",
        "\uff25",
        "\uff21) 3, \uff22) 4",
        "\u0410",
        "\u0412",
        "A\u0301",
        "A\0",
        "\0A",
        "\ud800",
        "A\ud800",
    ],
)
def test_boxes_that_do_not(inside):
    assert parse_answer(f"\\boxed{{{inside}}}") is None
    assert (
        parse_answer(f"\\boxed{{C}} \\boxed{{{inside}}}") is None
    )  # an earlier box does not stand in for the last


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<think> look red 1 blue red 2 so 2 B </think> \\boxed{ B }", "B"),
        ("\\boxed{A} \\boxed{B}", "B"),
        ("<think>\\boxed{A}</think>\\boxed{B}", "B"),
        ("<think>\\boxed{A}</think> so it is A", None),
        ("<think>x</think>\\boxed{A}</think>", None),  # after the last </think>
        ("\\boxed{A}</think>\\boxed{B}</think>\\boxed{C}", "C"),
        ("<think>no end, yet \\boxed{A}", "A"),  # without </think> the whole text counts
        ("\\boxed{A", None),
        ("\\boxed{\\text{A}", None),
        ("\\boxed{A) 3\\}", None),
        ("\\boxed{A} and \\boxed{B", None),
        ("\\boxed{", None),
        ("\\boxed", None),
        ("\\boxed{\\boxed{B}}", "B"),
        ("\\boxed{A \\boxed{B}}", "B"),
        ("\\boxed{A} \\boxed{}", None),
        ("boxed{A}", None),
        ("\\boxed A", None),
        ("\\boxed {A}", "A"),
        ("\\boxed \n { A }", "A"),
        ("\\boxed {A", None),
        ("\\boxed{A} \\boxed B", "A"),
        ("\\boxed{A} \\boxed {B}", "B"),
        ("\\boxed\\boxed{B}", "B"),
        ("\\Boxed{A}", None),
        ("\\fbox{A}", None),
        ("\\boxed</think>{A}", None),
        ("The answer is B.", None),
        ("B", None),
        ("<answer>B</answer>", None),
        ("", None),
        ("\\\\boxed{B}", "B"),
        ("\ud800\0\\boxed{B}\udfff", "B"),
    ],
)
def test_which_box_counts(text, expected):
    assert parse_answer(text) == expected


MANY = 200_000
HOSTILE_QUESTIONS = [
    ("<question>" * (MANY // 10), None),
    ("</question>" * (MANY // 11), None),
    ("<question></question>" * (MANY // 21), None),
    ("<question>" * (MANY // 20) + "<answer>" * (MANY // 16), None),
    ("<" * MANY, None),
    ("\0" * MANY, None),
    ("\ud800" * MANY, None),
    ("<question>" * (MANY // 10) + GOOD, PARSED),
    (GOOD + "<question>" * (MANY // 10), PARSED),
    (GOOD + "<answer>" * (MANY // 8), PARSED),
    ("</question>" * (MANY // 11) + GOOD, PARSED),
    ("A) B) C) D) " * (MANY // 12), None),
    (reply(answer="x" * MANY), None),
    (reply(answer="x" * MANY + "B"), Question("d", f"Q {OPTIONS}", "B")),
    (reply("A)" * (MANY // 2)), None),
    (reply("x" * MANY + OPTIONS), Question("d", "x" * MANY + OPTIONS, "C")),
]
HOSTILE_ANSWERS = [
    ("\\boxed{" * (MANY // 7), None),
    ("\\boxed{A}" * (MANY // 9), "A"),
    ("\\boxed{A}" * (MANY // 9) + "\\boxed{", None),
    ("\\boxed{" * (MANY // 8) + "B" + "}" * (MANY // 8), "B"),
    ("\\boxed{" + "{" * MANY, None),
    ("\\boxed{" + "}" * MANY, None),
    ("\\boxed{" + "{" * (MANY // 2) + "c" + "}" * (MANY // 2) + "}", "C"),
    ("\\boxed{" + "\\" * MANY, None),
    ("\\boxed{" + "\\text{" * (MANY // 7) + "B" + "}" * (MANY // 7) + "}", "B"),
    ("\\boxed{" + "(" * MANY + "}", None),
    ("\\boxed{" + " " * MANY + "b}", "B"),
    ("\\boxed{A) " + "x" * MANY + "}", "A"),
    ("\\boxed{A) " + ")" * MANY + "}", "A"),
    ("\\boxed{" + "A)" * (MANY // 2) + "}", None),
    ("\\boxed{A) " + "xB)" * (MANY // 3) + "}", "A"),
    ("\\boxed{" + "A" * MANY + "}", None),
    ("</think>" * (MANY // 8) + "\\boxed{D}", "D"),
    ("\\boxed{D}" + "</think>" * (MANY // 8), None),
    ("<think>" * (MANY // 7), None),
    ("\0" * MANY, None),
    ("\ud800" * MANY + "\\boxed{D}", "D"),
]
HOSTILE_CONTROLS = [
    ("how many <end_of_utterance> ?", True),
    ("A)<fake_token_around_image>", True),
    ("<start_of_image>", True),
    ("<IMG_CONTEXT>", True),
    ("<start> of a turn", False),
    ("<|" * (MANY // 2), False),
    ("|>" * (MANY // 2), False),
    ("<|" * (MANY // 2) + "im_end|>", True),
    ("<|" + "x" * MANY + "|>", False),
    ("<||>" * (MANY // 4), False),
    ("x" * MANY, False),
    ("x" * MANY + "\udcff", True),
    ("<| x |>" * (MANY // 7), False),
]


def short(value):
    return f"{value[:12]!r}..{value[-12:]!r}" if isinstance(value, str) else None


@pytest.mark.parametrize(("text", "expected"), HOSTILE_QUESTIONS, ids=short)
def test_hostile_questions(text, expected):
    assert parse_question(text) == expected


@pytest.mark.parametrize(("text", "expected"), HOSTILE_ANSWERS, ids=short)
def test_hostile_answers(text, expected):
    assert parse_answer(text) == expected


@pytest.mark.parametrize(
    "token",
    ["[INST]", "[/INST]", "<row_1_col_1>", "<tool_call>", "<\uff5cUser\uff5c>", "<\uff5cend of text\uff5c>"],
)
def test_structural_tokens_of_other_families(token):
    assert has_control_tokens(f"What is {token} here?")
    assert not has_control_tokens(f"What is {token[1:-1]} in row_1 of [1, 2] and [I] < 3?")


@pytest.mark.parametrize(("text", "expected"), HOSTILE_CONTROLS, ids=short)
def test_hostile_control_tokens(text, expected):
    assert has_control_tokens(text) is expected


def lines_run(function, text):
    """How many lines of Python `function` runs on `text`: work counted, not timed. Each line does at most one
    pass of `str` methods."""
    count = 0

    def trace(frame, event, _argument):
        nonlocal count
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        function(text)
    finally:
        sys.settrace(before)
    return count


@pytest.mark.parametrize(
    ("function", "head", "unit", "tail"),
    [
        (parse_question, "", "<question>", GOOD),
        (parse_question, "", "<question></question>", ""),
        (parse_question, "", "<answer>A</answer>", GOOD),
        (parse_answer, "", "\\boxed{", "B}"),
        (parse_answer, "\\boxed{", "{", "B}"),
        (parse_answer, "\\boxed{A)", " xB)", "}"),
        (parse_answer, "\\boxed{", "\\text{", "B}"),
        (parse_answer, "", "</think>", "\\boxed{B}"),
        (parse_answer, "", "\\boxed{A}", ""),
        (parse_answer, "", "\\boxed ", "\\boxed {B}"),
        (parse_answer, "\\boxed{B}", "\\boxed  ", ""),
        (parse_answer, "\\boxed{B - ", " - b", "}"),
        (parse_answer, "\\boxed{", "$", "B}"),
        (has_control_tokens, "", "<|", ""),
        (has_control_tokens, "", "<|a ", "|>"),
    ],
)
def test_twice_the_text_is_at_most_twice_the_work(function, head, unit, tail):
    once, twice = (lines_run(function, head + unit * times + tail) for times in (500, 1000))
    assert twice <= 2 * once


PIECES = st.sampled_from(
    [
        "<question>",
        "</question>",
        "<answer>",
        "</answer>",
        "<description>",
        "</description>",
        "<think>",
        "</think>",
        "\\boxed{",
        "\\text{",
        "{",
        "}",
        "(",
        ")",
        "A",
        "b",
        "E",
        "A)",
        "B)",
        "C)",
        "D)",
        "A) B) C) D)",
        ".",
        ":",
        " ",
        "\n",
        "\\",
        "\0",
        "\ud800",
        "\udfff",
        "<|",
        "|>",
        "\u0130",
        "\uff21",
        "word",
    ]
)
HOSTILE = st.one_of(st.lists(PIECES, max_size=40).map("".join), st.text(st.characters(), max_size=60))


@pytest.mark.slow
@given(HOSTILE)
def test_total_and_never_invented(text):
    has_control_tokens(text), has_control_tokens(text, "pocket")
    question, answer = parse_question(text), parse_answer(text)
    if question is not None:
        assert question.text in text and question.description in text
        assert all(mark in question.text for mark in ("A)", "B)", "C)", "D)"))
        assert question.intuitive in ("A", "B", "C", "D") and question.text == question.text.strip()
    if answer is not None:
        last = text.rpartition("\\boxed{")[2]
        assert answer in ("A", "B", "C", "D") and "}" in last and "</think>" not in last
        assert answer in last.upper()


PROSE = st.text(st.characters(exclude_characters="<\\", exclude_categories=("Cs",)), max_size=80)


@given(PROSE, PROSE, st.lists(PROSE, min_size=4, max_size=4), st.sampled_from("ABCD"), PROSE)
def test_a_well_formed_question_comes_back(description, stem, options, letter, around):
    question = stem + "".join(f"\n{name}) {text}" for name, text in zip("ABCD", options, strict=True))
    parsed = parse_question(around + reply(question, letter, description) + around)
    assert parsed == Question(description.strip(), question.strip(), letter)


FORMS = st.sampled_from(["%s", " %s ", "(%s)", r"\text{%s}", "%s) 3", r"\mathrm{(%s)}", "%s. red"])


@given(PROSE, PROSE, st.sampled_from("ABCDabcd"), FORMS)
def test_a_well_formed_answer_comes_back(reasoning, prose, letter, form):
    box = "\\boxed{" + form % letter + "}"
    assert parse_answer(f"<think>{reasoning}\\boxed{{E}}</think>{prose}{box}{prose}") == letter.upper()
    assert parse_answer(f"{reasoning}{box}{prose}") == letter.upper()
    assert parse_answer(f"{box}</think>{prose}") is None


@pytest.mark.parametrize(
    ("text", "natural", "pocket"),
    [
        (ASKED, False, False),
        ("", False, False),
        ("a < b | c > d, |x| < 3", False, False),
        ("is 5 <| y |> 3 ?", False, False),
        ("<||>", False, False),
        ("<|im_end|>", True, True),
        ("x<|image_pad|>y", True, True),
        ("<|<|im_start|>", True, True),
        ("<|" + "a" * 64 + "|>", True, True),
        ("<|" + "a" * 65 + "|>", False, False),
        ("<image> what", True, True),
        ("<img>", True, True),
        ("<eos>", True, True),
        ("how\ud800many", True, True),
        ("solve for x", False, True),
        ("what to ask ?", False, True),
        ("basket solved tasks", False, False),
    ],
)
def test_control_tokens(text, natural, pocket):
    assert has_control_tokens(text) is natural
    assert has_control_tokens(text, "pocket") is pocket


def test_the_pocket_prompt_format_is_bare_words():
    assert [(m.role, m.text) for m in questioner_messages("pocket")] == [("system", "ask"), ("user", "")]
    assert [(m.role, m.text) for m in solver_messages("pocket", ASKED)] == [
        ("system", "solve"),
        ("user", ASKED),
    ]


def test_the_natural_prompt_format_names_what_the_parsers_need():
    system, user = questioner_messages("natural")
    assert (system.role, user.role) == ("system", "user") and "question designer" in system.text
    places = [
        user.text.index(tag)
        for tag in ("<description>", "</description>", "<question>", "</question>", "<answer>", "</answer>")
    ]
    assert places == sorted(places)
    assert (
        all(f"\n{mark} " in user.text for mark in ("A)", "B)", "C)", "D)"))
        and "without thinking" in user.text
    )
    system, user = solver_messages("natural", ASKED)
    assert (system.role, user.role) == ("system", "user") and "expert problem solver" in system.text
    assert all(token in user.text for token in ("<think>", "</think>", "\\boxed{}"))


@given(st.text(st.characters(), max_size=200))
def test_a_question_reaches_the_solver_verbatim_and_last(question):
    first, second = solver_messages("natural", question), solver_messages("natural", "")
    assert first[1].text == second[1].text + question and first[0] == second[0]


@pytest.mark.parametrize("prompt_format", ["", "Pocket", "klingon"])
def test_an_unknown_prompt_format_is_refused(prompt_format):
    with pytest.raises(InputError, match="prompt_format"):
        questioner_messages(prompt_format)
    with pytest.raises(InputError, match="prompt_format"):
        solver_messages(prompt_format, "q")


def test_the_examples_in_a_prompt_are_no_answers():
    """An echo of the prompt must not count as a reply: its placeholder is not an option."""
    assert parse_answer(solver_messages("natural", ASKED)[1].text) is None
