"""profile.html: one file without scripts or links to anything but the trace beside it. A pure function of
what profile.json holds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

from harness.perf.profile import charts
from harness.perf.profile.render import facts, software
from harness.perf.profile.rows import OURS, STOCK
from harness.perf.profile.tables import grids, heading, number
from harness.tables.text import visible


def render(profile: Mapping[str, Any]) -> str:
    """The whole page. Everything but the charts is escaped by the template; the look is the run report's."""
    environment = Environment(
        loader=ChoiceLoader([PackageLoader("harness.perf.profile"), PackageLoader("harness.tables")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["visible"] = visible
    style = "".join(
        environment.loader.get_source(environment, name)[0] for name in ("style.css", "profile.css")
    )
    found = charts.batches(profile)
    return environment.get_template("profile.html.j2").render(
        style=style,
        profile={"trace": None, **profile},
        findings=findings(profile),
        batches=[(role, charts.stacked(role, sides)) for role, sides in found.items()],
        inferred=any(
            one.known != charts.MEASURED
            for sides in found.values()
            for parts in sides.values()
            for one in parts
        ),
        colours=charts.COLOURS,
        ratios=[
            (label, chart)
            for name, label in charts.MEASURES.items()
            if (chart := charts.ratios(profile["ratios"], name))
        ],
        grids=grids(profile),
        facts=[*facts(profile), software(profile)],
    )


def findings(profile: Mapping[str, Any]) -> list[str]:
    """What takes the time, and how ours compares, a sentence each; the first is the lede."""
    found = []
    for role, sides in charts.batches(profile).items():
        whole = sum(one.seconds for one in sides[OURS])
        most = max(sides[OURS], key=lambda one: one.seconds)
        said = f"A generation batch of the {role} takes {number(whole)} s, {most.seconds / whole:.0%} of it {most.phase}"
        if STOCK in sides:
            known = [one.phase for one in sides[STOCK] if one.known == charts.MEASURED]
            ours, stock = (
                sum(one.seconds for one in sides[side] if one.phase in known) for side in (OURS, STOCK)
            )
            said += f"; {' and '.join(known)} take stock {stock / ours:.2f} times as long"
        found.append(said + ".")
    for one in profile["ratios"]:
        if one["target"] != "grpo":
            low, high = one["speedup_range"]
            found.append(
                f"{heading(one)}: {one['speedup']:.2f} times the speed of stock ({low:.2f} to {high:.2f})."
            )
    return found
