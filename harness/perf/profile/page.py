"""profile.html: one file without scripts or links to anything but the trace beside it. A pure function of
the profile."""

from __future__ import annotations

from harness.perf.profile import charts
from harness.perf.profile.results import OURS, STOCK, Profile
from harness.perf.profile.tables import facts, heading, tables
from harness.tables import html
from harness.tables.words import significant


def render(profile: Profile) -> str:
    """The whole page."""
    found = charts.batches(profile)
    parts = [part for sides in found.values() for side in sides.values() for part in side]
    return (
        html.environment("harness.perf.profile")
        .get_template("profile.html.j2")
        .render(
            profile=profile,
            findings=findings(profile),
            batches=[(role, charts.stacked(role, sides)) for role, sides in found.items()],
            inferred=any(part.known != charts.MEASURED for part in parts),
            colours=charts.COLOURS,
            tables=tables(profile),
            facts=facts(profile),
        )
    )


def findings(profile: Profile) -> list[str]:
    """What takes the time, and how ours compares, a sentence each; the first is the lede."""
    found = []
    for role, sides in charts.batches(profile).items():
        whole, most = _seconds(sides[OURS]), max(sides[OURS], key=lambda one: one.seconds)
        sentence = (
            f"A generation batch of the {role} takes {significant(whole)} s, "
            f"{most.seconds / whole:.0%} of it {most.phase}"
        )
        if STOCK in sides:
            known = [one.phase for one in sides[STOCK] if one.known == charts.MEASURED]
            ours, stock = (
                _seconds([one for one in sides[side] if one.phase in known]) for side in (OURS, STOCK)
            )
            sentence += f"; {' and '.join(known)} take stock {stock / ours:.2f} times as long"
        found.append(sentence + ".")
    for one in profile.ratios:
        if one.target != "grpo":
            low, high = one.speedup_range
            speed = f"{one.speedup:.2f} times the speed of stock ({low:.2f} to {high:.2f})"
            found.append(f"{heading(one)}: {speed}.")
    return found


def _seconds(parts: list[charts.Part]) -> float:
    return sum(one.seconds for one in parts)
