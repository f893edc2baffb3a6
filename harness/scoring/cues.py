"""Phrases by which a writer states an answer, refuses one, or rejects an option. English and Chinese.

All repetitions are bounded, so that each pattern is linear in the text.
"""

from __future__ import annotations

import re


def _cue(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.IGNORECASE | re.VERBOSE)


NOUNS = """(?:option|choice|answer|letter|figure|diagram|image|picture|shape|box|label|item|set|statement
    |group|category|piece|cube|object|labell?ed|marked|position|gear|cog|pattern|grid|symbol|case|proposal|situation
    |structure|net|part|solid|block|drawing|point)""".replace("\n    ", "")
# "The correct answer is", "the best choice to replace the mark would be", "Answer:", "答案是"
ANNOUNCED = _cue(
    r"""\b(?:one\ (?=that|which)|answers?|choice|option|solution|conclusion
        |(?:correct|final|best|missing|next)\ (?:\w{1,20}\ ){0,2}?(?:one|\w{3,20}))\b
    (?P<gap>[^.\n;?!:=]{0,90}?)\ ?
    (?:(?<!\w)(?:is|are|was|would\ be|will\ be|should\ be|must\ be|could\ be|has\ to\ be|becomes|be)(?!\w)
        |:|=|->)\ ?
    |(?:答案|结果|结论|正确选项|选项)[^。\n;:]{0,6}?(?:应该|应当|应)?(?:是|为|选|:)\ ?:?"""
)
# "I would choose", "corresponds to option", "is option B", "故选"
CHOSEN = _cue(
    r"""\b(?:choose|select|pick|go\ with|opt\ for|chose|selected|answered|choosing|selecting|picked)[ ]
    |\b(?:correspond(?:s|ing)?\ to|match(?:es)?)\ (?:the\ )?(?=(?:option|choice|answer|letter)\b)
    |\b(?:is|be)\ (?=(?:option|choice|answer)\ \(?[A-J]\b)
    |(?:故|应|所以|因此|则|我)(?:选择|选)\ ?:?|选择\ ?:?"""
)
ENDS_ON = re.compile(r"(?:为|是|选) ?([A-J])\W{0,3}$")  # "因此面积为D"
# "(B) is correct", "Option B fits", "选项A正确"
JUDGED = re.compile(
    r"""(?P<label>\(\ ?[A-Ja-j]\ ?\)|\b[A-J]\b\)?)[^.\n;?!]{0,60}?\ (?:
        (?:is|are|would\ be|seems\ to\ be|appears\ to\ be)\ (?:the\ |a\ |most\ |likely\ |only\ ){0,3}
        (?:correct|right(?!\ ?-?(?:angle|triangle|side|hand|of))|best|true|answer|accurate|appropriate)
        |(?<=[A-J)]\ )(?:fits|completes|matches))\b
    |(?P<chinese>[A-J])\ ?(?:选项)?(?:是)?正确""",
    re.VERBOSE,
)
# "the other option is", "the next cheapest choice would be": announced, but as another one
OTHER = _cue(
    r"""\b(?:other|another|next|second|remaining|wrong|incorrect|worst)\ (?:\w{1,12}\ ){0,2}
    (?:option|choice|answer)"""
)
OTHERS = _cue(r"(?:both\ )?(?:the\ )?(?:other|remaining|rest)\b")  # "The other points (B, C and D)"
CORRECTION = _cue(
    r"""(?:(?:no|oh|hmm)[,.]?\ )?(?:wait|actually|correction|sorry|i\ mean
    |on\ (?:second\ thought|reflection))\b"""
)
# "Some would say that the answer is A", "It is a mistake to think that the answer is A"
HEARSAY = _cue(
    r"""(?:\b(?:some|many|most|others|people|students|one|you|they)\b[^,.;]{0,30}
        \b(?:say|think|argue|believe|guess|claim|assume|expect|tempted)\b
    |\bmistake\b|\bnot\ (?:the\ case|true|correct|clear|sure|certain)\b|\bwhether\b)[^,.;]{0,24}
    \b(?:answer|option|choice|solution)\b"""
)
NEGATED = _cue(
    r"""\b(?:(?:can)?not|never|neither|nor|incorrect|wrong|false|eliminated?|rule[sd]?\ out|except)\b
    |n't\b|不|错|排除"""
)
# What is set against the answer: "whereas Box A is too large", "than point B", "unlike the third image"
CONTRAST = _cue(
    r""",?\ ?\b(?:whereas|while|although|though|unlike|rather\ than|instead\ of|as\ opposed\ to
        |in\ contrast\ to|compared\ (?:to|with|against)|than|less|but\ not|not)\b[^,.;]{0,240}
    |^[^,]{0,80},\ (?:on\ the\ other\ hand|however|by\ contrast|in\ contrast|meanwhile),.{0,400}"""
)
CONDITION = _cue(
    r"""(?:\b(?:if(?!\ (?:(?:i|we|you|one)\ (?:had|have|must|were|need)|forced|necessary)\b)|unless|otherwise
        |depending\ on|provided\ that|assuming|in\ case)\b|如果|若)(?P<what>[^,;.]{0,120})"""
)
UNDECIDED = _cue(r"\b(?:either|between)\b|或")
REFUSAL = _cue(
    r"""(?:can\ ?not|can't|unable\ to|could\ not|couldn't|not\ able\ to|not\ possible\ to|impossible\ to
        |hard\ to|difficult\ to)\ (?:\w{1,20}\ ){0,2}
        (?:be\s|see|view|provid|determin|answer|give|specif|tell|access|calculat|measur|solve|analy|assist|help
        |find|offer|identif|state|process|interpret|say|draw|conclude|select|choose|compare|physical|visual|make)
    |(?:(?:do|does|did|have|has)(?:n't|\ not)|not)\ (?:\w{1,20}\ ){0,2}
        (?:provid|specif|includ|contain|mention|enough\ (?!to)|given|sufficient|access|clear|visible|valid
        |the\ ability|information|determinable|definitive|conclusive)
    |\bimpossible\ to|insufficient|is\ missing|\bunknown\b|not\ applicable|\bn/a\b|\bsorry\b|unclear|ambiguous
    |incomplete|inconclusive|nonsensical|language\ model|\bas\ an?\ (?:\w{1,12}-?\w{0,12}\ )?ai\b
    |(?:more|additional|necessary|missing|complete)\ (?:information|context|details|specific|data)
    |please\ (?:provide|give|clarif|specif|share|note\ that\ i)|无法|不能确定|信息不足"""
)
REFUSES_HERSELF = _cue(r"\b(?:I|me|sorry|image|picture|without|provided)\b|n't\b")  # of writer or picture
NO_OPTION = _cue(
    r"""none\ of\ the\ (?:options|choices|answers|given|provided|above\ (?:options|choices))
    |\bneither\ (?:of\b|[^.]{1,60}\bnor\b)
    |(?:is|are|was)\ not\ (?:(?:in|among|one\ of|listed|available|given)[^.\n]{0,40}(?:options|choices)
        |an\ option)
    |(?:option|answer|choice)(?:\ letter)?\ is\ not\ (?:provided|given|listed|available)"""
)
CONCLUSION = _cue(
    r"""\b(?:therefore|thus|hence|in\ conclusion|finally|in\ total|this\ means|which\ means|in\ summary
        |we\ can\ conclude|this\ suggests|this\ indicates
        |based\ on\ (?:this|the|these|my)\ (?:\w{1,20}\ ){0,2}(?:analysis|observations?|comparison)
        |given\ (?:this|these)\ (?:\w{1,20}\ ){0,2}(?:analysis|observations?))\b
    |^(?:and\ )?so\b|,\ so\b|∴|所以|因此|故|综上"""
)
CANNOT_TELL = _cue(
    r"""impossible\ to\ tell|can\ ?not\ (?:say|tell|be\ determined|be\ predicted)|can't\ (?:say|tell|be)
    |insufficient\ info|not\ enough\ info|unable\ to"""
)
MOST_CUES = 100  # of so many last ones at least one states the answer, or none does
