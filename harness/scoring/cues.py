"""Phrases by which a writer announces an answer, refuses one, or rejects an option. English and Chinese.

All repetitions are bounded, so that each pattern is linear in the text.
"""

from __future__ import annotations

import re


def _any(words: str) -> str:
    """Alternatives, one a line or separated by ` | `."""
    return (
        "(?:"
        + "|".join(part for line in words.strip().split("\n") for part in line.strip().split(" | "))
        + ")"
    )


_WORD_VERB = _any(
    "is | are | was | would be | will be | should be | must be | could be | has to be | becomes | be"
)
_VERB = rf"(?:(?<!\w){_WORD_VERB}(?!\w)|:|=|->)"
_THING = _any("""answers? | choice | option | solution | conclusion
              (?:correct|right|final|best|missing|next) (?:\\w{1,20} ){0,2}?(?:one|\\w{3,20})""")
# "The correct answer is", "the best choice to replace the mark would be", "Answer:", "答案是"
ANNOUNCED = re.compile(
    rf"\b{_THING}\b(?P<gap>[^.\n;?!:=]{{0,90}}?) ?{_VERB} ?"
    r"|(?:答案|结果|结论|正确选项|选项)(?P<gap2>[^。\n;:]{0,6}?)(?:应该|应当|应)?(?:是|为|选|:) ?:?",
    re.IGNORECASE,
)
# "I would choose", "corresponds to option", "故选"
CHOSEN = re.compile(
    r"\b(?:choose|select|pick|go with|opt for|chose|selected|answered|choosing|selecting|picked) "
    r"|\b(?:correspond(?:s|ing)? to|match(?:es)?) (?:the )?(?=(?:option|choice|answer|letter)\b)"
    r"|(?:故|应|所以|因此|则|我)(?:选择|选) ?:?|选择 ?:?",
    re.IGNORECASE,
)
MOST_CUES = 100  # of so many last ones at least one names the answer, or none does
NOUNS = (
    "option|choice|answer|letter|figure|diagram|image|picture|shape|box|label|item|statement|set|group|category|piece|cube|object|"
    "labell?ed|marked|position|gear|cog|pattern|grid|symbol|case|proposal|situation|structure|net|part|solid|block|drawing"
)
# "Figure B", "is A,", "选项 B"
NAMED = re.compile(
    rf"\b(?:{NOUNS})s? (?=[\"'(]?[A-I1-9]\b)|\b(?:is|are) (?=(?-i:[A-H])[,.])|选项 ?(?=[A-I])", re.IGNORECASE
)
# "(B) is correct", "选项A正确"
JUDGED = re.compile(
    r"(?P<label>\( ?[A-Ia-i] ?\)|\b[A-I]\b\)?)(?P<gap>[^.\n;?!]{0,60}?) (?:is|are|would be|seems to be|appears to be)"
    r" (?:the |a |most |likely |only ){0,3}(?:correct|right(?! ?-?(?:angle|triangle|side|hand|of))|best|true|answer|accurate|appropriate)\b"
    r"|(?P<chinese>[A-I]) ?(?:选项)?(?:是)?正确"
)
NEGATED = re.compile(
    r"\b(?:not|never|neither|nor|incorrect|wrong|false|rather than|instead of|eliminated?|rule[sd]? out|except|unlike)\b|n't\b|不|错|排除",
    re.IGNORECASE,
)
_CANNOT = _any("""can ?not | can't | unable to | could not | couldn't | not able to | not possible to | impossible to
               hard to | difficult to""")
_DO = _any("""be\\s | see | view | provid | determin | answer | give | specif | tell | access | calculat | measur | solve | analy | assist
           help | find | offer | identif | state | process | interpret | say | draw | conclude | select | choose | compare | physical
           visual | make""")
_LACKS = _any(
    "don't | doesn't | does not | do not | did not | didn't | haven't | have not | hasn't | has not | not"
)
_NEEDED = _any("""provid | specif | includ | contain | mention | enough | given | sufficient | access | clear | visible | valid
               the ability | information | determinable | definitive | conclusive""")
_PLAIN_REFUSAL = _any("""\\bimpossible to | insufficient | is missing | \\bunknown\\b | not applicable | \\bn/a\\b | \\bsorry\\b | unclear
                      ambiguous | incomplete | inconclusive | nonsensical | language model | \\bas an? (?:\\w{1,12}-?\\w{0,12} )?ai\\b
                      (?:more|additional|necessary|missing|complete) (?:information|context|details|specific|data)
                      please (?:provide|give|clarif|specif|share|note that i) | 无法 | 不能确定 | 信息不足""")
REFUSAL = re.compile(
    rf"{_CANNOT} (?:\w{{1,20}} ){{0,2}}{_DO}|{_LACKS} (?:\w{{1,20}} ){{0,2}}{_NEEDED}|{_PLAIN_REFUSAL}",
    re.IGNORECASE,
)
NO_OPTION = re.compile(
    r"none of the (?:options|choices|answers|given|provided|above (?:options|choices))"
    r"|(?:is|are|was) not (?:in|among|one of|listed|available|given)[^.\n]{0,40}(?:options|choices)"
    r"|not (?:one of|in|among) the (?:\w{1,12} ){0,2}(?:options|choices)|mistake in the (?:question|problem|options)"
    r"|(?:option|answer|choice)(?: letter)? is not (?:provided|given|listed|available)",
    re.IGNORECASE,
)
CONCLUSION = re.compile(
    r"\b(?:therefore|thus|hence|in conclusion|finally|in total|this means|which means|in summary|we can conclude)\b|^(?:and )?so\b"
    r"|∴|所以|因此|故|综上",
    re.IGNORECASE,
)
# "the other option is", "the next cheapest choice would be": announced, but as another one
OTHER = re.compile(
    r"\b(?:other|another|next|second|remaining|wrong|incorrect|worst) (?:\w{1,12} ){0,2}$|^next \w{1,12}est\b",
    re.IGNORECASE,
)
CANNOT_TELL = re.compile(
    r"impossible to tell|can ?not (?:say|tell|be determined|be predicted)|can't (?:say|tell|be)"
    r"|insufficient info|not enough info|unable to",
    re.IGNORECASE,
)
