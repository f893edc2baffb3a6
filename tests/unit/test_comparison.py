"""Comparisons of runs: pooling against hand-worked cases, rows side by side, tolerant reading, and every
format with hostile names."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats as scipy_stats

from harness.analysis import build
from harness.analysis.comparison import ArmRow, Comparison, compare
from harness.analysis.items import Answers, decode, encode, outcomes_of
from harness.analysis.load import load
from harness.analysis.measures import SuiteItems
from harness.analysis.verdicts import verdicts
from harness.claims.verdict import ClaimVerdict
from harness.evals import results as evaluations
from harness.report import arms, formats
from harness.report.page import forest
from harness.tables.table import Cell
from tests.fixtures.evaluations import SETTINGS
from vzero.errors import InputError
from vzero.runtime import artefacts

HOSTILE = (
    "=cmd|'/c calc'!A1 <script>alert(1)</script> \\input{/etc/passwd} & % $x_1^2$ #~ {\u202e} | `x` \x1b[31m"
)


def changed(row: ArmRow, suite: str, **gain: float) -> ArmRow:
    """The row with another gain on one suite."""
    score = row.scores[suite]
    other = score.model_copy(update={"gain": score.gain.model_copy(update=gain)})
    return row.model_copy(update={"scores": {**row.scores, suite: other}})


def decoded(items: Any) -> dict[str, dict[str, Answers]]:
    return decode({suite: SuiteItems.model_validate(block) for suite, block in items.items()})


def row(suite: str, item: int, right: bool, image: str | None = None) -> dict[str, Any]:
    answer = {"answer": "A" if right else "B", "finish_reason": "stop"}
    return {
        "suite": suite,
        "item_id": f"{suite}-{item}",
        "image_sha256": image or f"{suite}{item}",
        "gold": "A",
        "greedy": answer,
        "sampled": [answer] * 2,
    }


def interval(values: Sequence[int]) -> dict[str, Any]:
    return {"value": float(np.mean(values)), "low": None, "high": None, "n": len(values)}


def results(
    arm: str, seed: int, answers: Mapping[str, Mapping[str, Sequence[int]]], **more: Any
) -> dict[str, Any]:
    """A results object with items: `answers[model][suite]` are 0 or 1."""
    rows = {
        model: {
            suite: [row(suite, i, bool(v)) for i, v in enumerate(values)] for suite, values in suites.items()
        }
        for model, suites in answers.items()
    }
    suites = list(next(iter(answers.values())))
    counts = {
        name: {"value": 0, "n": 1}
        for name in ("unparsed_greedy", "unparsed_sampled", "truncated_greedy", "truncated_sampled")
    }
    return {
        "format": 2,
        "preset": "p",
        "arm": arm,
        "seed": seed,
        "model": "m",
        "split": "test",
        "samples": 2,
        "models": list(answers),
        "metrics": ["greedy", "sampled"],
        "suites": {
            suite: {
                model: {
                    "accuracy": {"greedy": interval(answers[model][suite])},
                    **counts,
                }
                for model in answers
            }
            for suite in suites
        },
        "items": {suite: one.model_dump() for suite, one in encode(outcomes_of(rows), suites).items()},
        **more,
    }


def write(folder: Path, found: Mapping[str, Any]) -> Path:
    artefacts.write_json(folder / "results.json", found)
    return folder


def draw(rng: np.random.Generator, share: float, n: int = 60) -> list[int]:
    return [int(value) for value in rng.random(n) < share]


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Two arms with three seeds each; the base answers alike in every run."""
    rng = np.random.default_rng(5)
    base = {suite: draw(rng, 0.5) for suite in ("a", "b")}
    for arm, gain in (("v-zero", 0.3), ("rival", 0.05)):
        for seed in range(3):
            after = {
                suite: [max(v, int(rng.random() < gain)) for v in values] for suite, values in base.items()
            }
            after["b"] = [v if arm == "v-zero" else v * int(rng.random() < 0.8) for v in after["b"]]
            write(tmp_path / arm / f"seed-{seed}", results(arm, seed, {"base": base, "S1": after}))
    return tmp_path


def test_items_survive_the_file_and_missing_ones_stay_missing() -> None:
    rows = {
        "base": {"a": [row("a", 0, True), row("a", 1, False, "shared"), row("a", 2, True, "shared")]},
        "S1": {"a": [row("a", 1, True, "shared")]},
    }
    stored = {suite: one.model_dump() for suite, one in encode(outcomes_of(rows), ["a"]).items()}
    found = decoded(json.loads(json.dumps(stored)))
    base, trained = found["a"]["base"], found["a"]["S1"]
    assert base.items == ("a-0", "a-1", "a-2") and base.values("greedy", 2).values.tolist() == [1, 0, 1]
    assert trained.items == ("a-1",) and trained.right.tolist() == [2]
    assert trained.values("sampled", 2).values.tolist() == trained.values("pass@2", 2).values.tolist() == [1]
    assert base.images[1] == base.images[2] == trained.images[0] != base.images[0]
    assert base != trained and base == decoded(stored)["a"]["base"]
    for torn in ({"greedy": "10"}, {"majority": "1011"}, {"right": "1 2"}, {"right": "1 x 2"}):
        columns = {**stored["a"]["outcomes"]["base"], **torn}
        with pytest.raises(ValueError):
            decoded({"a": {**stored["a"], "outcomes": {"base": columns}}})


def test_seeds_are_pooled_into_one_row_with_the_t_of_seeds_and_images(runs: Path) -> None:
    found = compare(load([runs]))
    rows = {one.name: one for one in found.rows}
    assert list(rows) == ["base", "v-zero S1", "rival S1"] and rows["rival S1"].seeds == [0, 1, 2]
    loaded = [artefacts.read_json(runs / "v-zero" / f"seed-{seed}" / "results.json") for seed in range(3)]
    differences = np.array(
        [
            [
                after - before
                for before, after in zip(
                    *(decoded(r["items"])["a"][model].greedy.tolist() for model in ("base", "S1")),
                    strict=True,
                )
            ]
            for r in loaded
        ],
        dtype=float,
    )
    gain = rows["v-zero S1"].scores["a"].gain
    assert gain.gain == pytest.approx(differences.mean()) and gain.by_seed == pytest.approx(
        list(differences.mean(1))
    )
    seeds, images = differences.mean(1).var(ddof=1) / 3, differences.mean(0).var(ddof=1) / 60
    freedom = (seeds + images) ** 2 / (seeds**2 / 2 + images**2 / 59)
    half = scipy_stats.t.ppf(0.975, freedom) * np.sqrt(seeds + images)
    assert gain.t_low == pytest.approx(gain.gain - half) and gain.low <= gain.t_low
    assert gain.p_corrected >= gain.p


@pytest.mark.slow
def test_a_gain_is_the_same_wherever_it_is_shown() -> None:
    """In a run's own results, in the table of that run, as a seed of a pooled row, and in the claim."""
    committed = Path(__file__).parents[2] / "results" / "pocket" / "arms" / "v-zero"
    runs = load([committed / f"seed-{seed}" for seed in range(3)])
    alone = compare(runs[:1])
    (row,) = (one for one in alone.rows if one.checkpoint == "S2")
    for place, gains in runs[0].results.gains["S2"].items():
        one, same = row.scores[place].gain, gains["greedy"]  # each is corrected over what stands beside it
        beside = {"p_corrected", "direction"}
        assert build.rounded(one.model_dump(exclude=beside)) == build.rounded(same.model_dump(exclude=beside))
    (pooled,) = (one for one in compare(runs).rows if one.checkpoint == "S2")
    for place, score in pooled.scores.items():
        own = [run.results.gains["S2"][place]["greedy"].gain for run in runs]
        assert score.gain.by_seed == pytest.approx(own, abs=1e-9)
    (claim,) = (one for one in alone.claims if one.id == "vzero.order.base")
    assert claim.measured.gain == row.scores["average"].gain.gain


def test_gains_over_an_arm_or_another_run_are_paired_with_it(runs: Path) -> None:
    over_base = {one.name: one.scores["a"].gain for one in compare(load([runs])).rows}
    found = {one.name: one.scores["a"].gain for one in compare(load([runs]), against="rival").rows}
    assert found["rival S1"] is None
    assert found["v-zero S1"].gain == pytest.approx(over_base["v-zero S1"].gain - over_base["rival S1"].gain)
    assert found["base"].gain == pytest.approx(-over_base["rival S1"].gain)
    beside = compare(load([runs / "v-zero"]), reference=load([runs / "rival"]))
    assert {one.name: one.scores["a"].gain for one in beside.rows}["v-zero S1"] == found["v-zero S1"]
    with pytest.raises(InputError, match="choose base"):
        compare(load([runs]), against="nobody")


@pytest.mark.slow
def test_losses_are_always_said(runs: Path) -> None:
    said = arms.losses(compare(load([runs])))
    assert any(one.startswith("rival S1 loses on b") for one in said) and not any(
        one.startswith("v-zero") for one in said
    )
    for name in ("md", "latex", "html"):
        assert "loses on b" in formats.render(compare(load([runs])), name, [Path("/nowhere")] * 6)


def test_a_loss_is_said_only_where_its_number_shows_one(runs: Path) -> None:
    found = compare(load([runs]))
    for gain, said in ((-0.00004, False), (-0.0004, True)):
        rows = [changed(row, "b", gain=gain) if row.name == "rival S1" else row for row in found.rows]
        other = found.model_copy(update={"rows": rows})
        assert any(one.startswith("rival S1 loses on b (\u22120.04") for one in arms.losses(other)) is said
        for name in ("md", "latex", "html"):
            text = formats.render(other, name, [Path("/nowhere")] * 6)
            assert not any("loses" in line and "(0.0" in line for line in text.splitlines())


def test_many_losses_are_counted_at_the_top_and_named_below(runs: Path) -> None:
    found = compare(load([runs]))
    (row,) = (one for one in found.rows if one.name == "rival S1")
    assert arms.headline(found) == arms.losses(found)
    more = [row.model_copy(update={"name": f"arm {i}"}) for i in range(30)]
    found = found.model_copy(update={"rows": [*found.rows, *more]})
    head = arms.headline(found)
    assert head[0].startswith("31 of 32 rows lose on some suite")
    assert "arm 29 on b (" in head[1] and "v-zero" not in head[1]
    page = formats.render(found, "html", [Path("/nowhere")] * 6)
    assert page.index("31 of 32 rows") < page.index("<h2>Published claims") < page.index("arm 29 loses on b")


def test_one_endless_interval_does_not_squeeze_the_others(runs: Path) -> None:
    found = compare(load([runs]))

    def apart(chart: str) -> float:
        dots = [float(one) for one in re.findall(r'<circle cx="([\d.]+)"', chart)]
        return abs(dots[0] - dots[1])

    before = str(forest(found, "a"))
    rows = [changed(row, "a", low=-1.0, high=1.0) if row.name == "v-zero S1" else row for row in found.rows]
    after = str(forest(found.model_copy(update={"rows": rows}), "a"))
    assert apart(after) > 0.3 * apart(before) and "polyline" in after and "polyline" not in before
    places = [float(x) for x in re.findall(r'[xc][xy]?[12]?="(-?[\d.]+)"', after)]
    assert min(places) >= 0 and max(places) <= float(re.search(r'viewBox="0 0 (\d+)', after)[1])


def test_names_that_differ_at_their_end_differ_in_the_forest(runs: Path) -> None:
    found = compare(load([runs]))
    rows = [
        row.model_copy(update={"name": f"single-uncertainty-step-matched {end}"})
        for row, end in zip(found.rows, ("S1", "S2", "S3"), strict=True)
    ]
    chart = str(forest(found.model_copy(update={"rows": rows}), "a"))
    assert all(f"matched {end}<" in chart for end in ("S2", "S3"))


def test_the_claim_of_order_is_judged_where_its_arms_are_here(runs: Path) -> None:
    shutil.copytree(runs / "rival", runs / "frozen-questioner")
    for path in (runs / "frozen-questioner").rglob("results.json"):
        artefacts.write_json(path, {**artefacts.read_json(path), "arm": "frozen-questioner"})
    found = {one.id: one for one in compare(load([runs])).claims}
    assert found["vzero.order.frozen-questioner"].verdict == "REPRODUCED"
    assert found["vzero.order.frozen-questioner"].measured.gain > 0.1
    assert (
        found["vzero.order.no-filter"].verdict == "NOT RUN"
        and "no-filter" in found["vzero.order.no-filter"].reason
    )
    assert (
        found["vzero.7b.math"].verdict == "NOT RUN"
        and "qwen2.5-vl-7b-instruct" in found["vzero.7b.math"].reason
    )


def test_what_would_settle_a_claim_follows_from_the_two_variances(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    base = draw(rng, 0.5, 2000)
    gains = (0.01, 0.06, 0.11)
    after = [[max(v, int(rng.random() < 2 * gain)) for v in base] for gain in gains]
    for seed, values in enumerate(after):
        write(tmp_path / f"seed-{seed}", results("v-zero", seed, {"base": {"a": base}, "S1": {"a": values}}))
    (claim,) = (one for one in compare(load([tmp_path])).claims if one.id == "vzero.order.base")
    differences = np.array(after, dtype=float) - np.array(base)
    seeds, images = differences.mean(1).var(ddof=1) / 3, differences.mean(0).var(ddof=1) / 2000
    target = (differences.mean() / (scipy_stats.norm.ppf(0.975) + scipy_stats.norm.ppf(0.8))) ** 2
    assert claim.verdict == "INCONCLUSIVE" and claim.settle[0].seeds == int(
        np.ceil(3 * seeds / (target - images))
    )
    assert claim.settle[0].items is None and seeds > target


@pytest.mark.parametrize(
    ("metric", "verdict"),
    [("greedy", "REPRODUCED"), ("sampled", "PROTOCOL DEVIATION"), ("maj@2", "PROTOCOL DEVIATION")],
)
def test_a_claim_is_held_to_the_answers_of_its_metric(runs: Path, metric: str, verdict: str) -> None:
    """Sampled answers that cannot be read are no fault of greedy ones; votes are not what the claim is
    about."""
    for path in runs.rglob("results.json"):
        found = artefacts.read_json(path)
        found["metrics"] = ["greedy", "sampled", "maj@2"]
        for models in found["suites"].values():
            for one in models.values():
                greedy = one["accuracy"]["greedy"]
                one["accuracy"] |= {"sampled": greedy, "maj@2": greedy}
                one["unparsed_sampled"] = {"value": int(metric == "sampled"), "n": 2}
        artefacts.write_json(path, found)
    (claim,) = (
        one for one in compare(load([runs / "v-zero"]), metric=metric).claims if one.id == "vzero.order.base"
    )
    assert claim.verdict == ("REPRODUCED" if metric == "greedy" else "PROTOCOL DEVIATION")
    assert {"sampled": "could be read", "maj@2": "measured by maj@2"}.get(metric, "") in " ".join(
        claim.deviations
    )


def test_arms_are_compared_on_the_seeds_that_both_have(runs: Path) -> None:
    """A seed of one arm alone changes its level, and neither way of asking for the difference between the
    two."""

    def difference(arm: str, over: str) -> tuple[float, float, float, int]:
        rows = {one.name: one for one in compare(load([runs]), against=over).rows}
        gain = rows[f"{arm} S1"].scores["average"].gain
        return gain.gain, gain.low, gain.high, len(gain.by_seed)

    before, after = [difference("v-zero", "rival")], []
    write(
        runs / "v-zero" / "seed-7",
        {**artefacts.read_json(runs / "rival" / "seed-0" / "results.json"), "arm": "v-zero", "seed": 7},
    )
    after.append(difference("v-zero", "rival"))
    assert after == before and before[0][3] == 3
    gain, low, high, seeds = difference("rival", "v-zero")
    assert (-gain, seeds) == (pytest.approx(before[0][0]), 3) and low < gain < high


def test_arms_of_two_presets_are_no_claim_of_order(runs: Path) -> None:
    for path in (runs / "rival").rglob("results.json"):
        artefacts.write_json(path, {**artefacts.read_json(path), "arm": "no-filter", "preset": "q"})
    found = {one.id: one for one in compare(load([runs])).claims}
    assert found["vzero.order.no-filter"].reason == "vzero and no-filter were run by different presets"
    assert found["vzero.order.base"].verdict == "REPRODUCED"


def test_a_shortened_suite_is_a_protocol_deviation(runs: Path) -> None:
    for path in runs.rglob("results.json"):
        artefacts.write_json(path, {**artefacts.read_json(path), "expected": {"a": 100, "b": 60}})
    found = compare(load([runs]))
    claim = next(one for one in found.claims if one.id == "vzero.order.base")
    assert claim.verdict == "PROTOCOL DEVIATION" and "120 of 160" in claim.deviations[0]
    assert any(
        cell.tone == "bad" and cell.text == "120 of 160" for line in arms.table(found).rows for cell in line
    )


def test_published_rows_stand_beside_a_model_they_are_about_and_are_not_subtracted(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    answers = {"base": {"mmstar": draw(rng, 0.6), "mathvista_testmini": draw(rng, 0.6)}}
    write(
        tmp_path, {**results("none", 0, answers), "model": "Qwen/Qwen2.5-VL-7B-Instruct"}
    )  # a checkpoint never trained here
    found = compare(load([tmp_path]))
    kinds = [one.kind for one in found.published]
    assert kinds == sorted(kinds) and set(kinds) == {"published", "third-party"}
    third = [one for one in found.published if one.kind == "third-party" and "internvl-report" in one.source]
    assert third[0].numbers["mmstar"][0].value == pytest.approx(0.639)
    tones = [line[0].tone for line in arms.table(found).rows]
    assert tones == [""] * len(found.rows) + ["printed"] * len(found.published)
    assert not [score for one in found.rows for score in one.scores.values() if score.gain]


def test_what_cannot_be_compared_is_one_sentence(tmp_path: Path, runs: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"no results\.json"):
        load([tmp_path / "empty"])
    (tmp_path / "empty" / "results.json").write_text('{"suites": 3}')
    with pytest.raises(InputError, match="not the results"):
        load([tmp_path / "empty"])
    shutil.copytree(runs / "rival" / "seed-0", runs / "twin")
    with pytest.raises(InputError, match="same seed 0"):
        load([runs / "rival", runs / "twin"])
    with pytest.raises(InputError, match="--metric"):
        compare(load([runs / "rival"]), metric="maj@99")


@pytest.fixture
def hostile(tmp_path: Path) -> Comparison:
    rng = np.random.default_rng(2)
    for seed in range(2):
        answers = {"base": {HOSTILE: draw(rng, 0.4)}, "S1": {HOSTILE: draw(rng, 0.6)}}
        write(
            tmp_path / f"{seed}",
            results(HOSTILE, seed, answers, warnings=[HOSTILE], missing={HOSTILE: HOSTILE}),
        )
    return compare(load([tmp_path]))


def test_csv_holds_no_formula(hostile: Comparison) -> None:
    lines = list(csv.reader(io.StringIO(formats.render(hostile, "csv"))))
    assert {len(line) for line in lines} == {len(lines[0])} and len(lines) > 2
    for cell in (cell for line in lines for cell in line):
        try:
            float(cell)
        except ValueError:
            assert not cell.lstrip(" ").startswith(("=", "+", "-", "@", "\t", "\r", "\n")), cell


def test_html_escapes_and_needs_nothing(hostile: Comparison) -> None:
    page = formats.render(hostile, "html", [Path("/nowhere")] * 2)
    tags: list[tuple[str, dict[str, str | None]]] = []
    parser = HTMLParser()
    parser.handle_starttag = lambda tag, attributes: tags.append((tag, dict(attributes)))  # type: ignore[method-assign]
    parser.feed(page)
    assert not {"script", "link", "iframe", "img"} & {tag for tag, _ in tags}
    assert not [
        attributes
        for _, attributes in tags
        if any(name.startswith("on") or name == "href" for name in attributes)
    ]
    assert "\x1b" not in page and "\u202e" not in page and "alert(1)" in page
    assert all(
        attributes.get("tabindex") == "0" for _, attributes in tags if attributes.get("class") == "scroll"
    )


def test_latex_compiles_whatever_the_names_are(hostile: Comparison, runs: Path, tmp_path: Path) -> None:
    text = formats.render(hostile, "latex") + formats.render(compare(load([runs])), "latex")
    assert text.isascii() and "\\input{" not in text and text.count("\\begin{") == text.count("\\end{")
    depth = 0
    for before, c in zip(" " + text, text, strict=False):
        depth += (c == "{" and before != "\\") - (c == "}" and before != "\\")
        assert depth >= 0
    assert depth == 0
    if shutil.which("pdflatex"):
        (tmp_path / "doc.tex").write_text(
            "\\documentclass{article}\\usepackage{booktabs}\\begin{document}" + text + "\\end{document}"
        )
        done = subprocess.run(
            ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "doc.tex"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            errors="replace",
        )
        assert done.returncode == 0 and (tmp_path / "doc.pdf").exists(), done.stdout[-2000:]


def test_latex_has_what_was_run_and_nothing_else(hostile: Comparison, runs: Path) -> None:
    """Published rows and claims that were not run stand in Markdown, and not in a table for a paper."""
    for found in (hostile, compare(load([runs]))):
        text = formats.render(found, "latex")
        labels = re.findall(r"\\label\{(tab:[a-z0-9-]+)\}", text)
        assert len(labels) == len(set(labels)) == text.count("\\begin{table}") >= 1
        assert "\\toprule" in text and "\\hline" not in text and "NOT RUN" not in text
        assert "NOT RUN" in formats.render(found, "md") and "published" not in text.split("\\bottomrule")[0]


@pytest.mark.parametrize("name", ["T=1", "T = 1", "t=1", "sampled"])
def test_a_metric_is_asked_for_by_the_name_that_is_shown(name: str) -> None:
    loaded = load([Path(__file__).resolve().parents[2] / "results" / "pocket" / "arms" / "one-iteration"])
    assert compare(loaded, metric=name).metric == "sampled"
    with pytest.raises(InputError, match="choose --metric from greedy, T=1, maj@10"):
        compare(loaded, metric="accuracy")


def test_markdown_and_json_say_the_same(runs: Path) -> None:
    found = compare(load([runs]))
    assert Comparison.model_validate_json(formats.render(found, "json")) == found
    text = formats.render(found, "md")
    for one in found.rows:
        for score in one.scores.values():
            assert f"{100 * score.value:.1f}" in text


def test_verdicts_of_nothing_are_all_not_run() -> None:
    assert {one.verdict.value for one in verdicts([], [], "greedy")} == {"NOT RUN"}


def evaluation(folder: Path, model: str, right: Sequence[int]) -> Path:
    """An evaluation's folder as `evaluate` writes it, as far as a table reads it."""
    n, share = len(right), float(np.mean(right))
    rates = dict.fromkeys(("verified", "verified_given_parsed"), share)
    rates |= dict.fromkeys(("official", "official_given_parsed"))
    about = {"title": "", "rule": "", "note": None, "without_gold": (), "deviations": ()}
    about |= {"rows": n, "rows_expected": n}
    greedy = evaluations.Greedy(
        n=n, without_gold=0, parsed=0.95, truncated=0.1, **rates, verified_interval=(0.1, 0.9)
    )
    whole = evaluations.SuiteResult(**about, answered=n, status="complete", greedy=greedy)
    found = evaluations.EvaluationResults(
        evaluation=SETTINGS.model_copy(update={"model": model, "suites": ("mmstar", "mmvp")}),
        answers_read_by="rules",
        suites={
            "mmstar": whole,
            "mmvp": evaluations.SuiteResult(**about, answered=3, status="incomplete"),
        },
        groups={},
        complete=False,
    )
    artefacts.write_json(folder / "results.json", found.model_dump(mode="json"))
    artefacts.write_jsonl(
        folder / "items.scored.jsonl",
        [{"suite": "mmstar", "id": str(i), "verified": bool(v)} for i, v in enumerate(right)],
    )
    return folder


def test_evaluations_alone_are_compared_item_by_item(tmp_path: Path) -> None:
    rng = np.random.default_rng(8)
    base = draw(rng, 0.5, 200)
    after = [max(v, int(rng.random() < 0.2)) for v in base]
    ours = evaluation(tmp_path / "ours", "/models/tuned", after)
    theirs = evaluation(tmp_path / "theirs", "Qwen/Qwen2.5-VL-7B-Instruct", base)
    found = compare(load([ours]), reference=load([theirs]))
    rows = {one.name: one for one in found.rows}
    gain = rows["ours"].scores["mmstar"].gain
    wins = sum(now > then for then, now in zip(base, after, strict=True))
    assert (
        gain.gain == pytest.approx(wins / 200)
        and gain.p == pytest.approx(2 * 0.5**wins)
        and gain.test == "mcnemar"
    )
    faults = rows["ours"].faults
    assert (faults["unparsed_greedy"], faults["truncated_greedy"]) == pytest.approx((0.05, 0.1))
    assert "mmvp" not in found.suites and any("mmvp" in one for one in arms.notes(found))
    assert [one for one in found.published if one.kind == "third-party"]
    assert rows["ours"].scores["mmstar"].low is not None


def edited(runs: Path, change: Any) -> None:
    """Every stored results object, changed by `change(found) -> its new fields`."""
    for path in runs.rglob("results.json"):
        found = artefacts.read_json(path)
        artefacts.write_json(path, {**found, **change(found)})


def spent(found: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    """What a run cost; every seed keeps another number of questions."""
    kept = 80 + 8 * found["seed"]
    whole = {"images": 96, "written": 96, "rollouts": {"solver": kept}, "votes": {"label": 960}}
    return {"compute": {**whole, "steps": {"questioner": 8, "solver": kept // 8}, "tokens": 10_000, **more}}


def gain_cells(found: Comparison) -> list[Cell]:
    """The cells of the table that hold a gain."""
    places = range(1, 1 + len(found.suites) + 1)
    return [row[place] for row in arms.table(found).rows for place in places if row[place].details]


def notes_of(runs: Path) -> dict[str, str | None]:
    return {one.name: one.compute_note for one in compare(load([runs])).rows}


def test_all_compute_is_compared(runs: Path) -> None:
    twice = {"written": 192, "votes": {"label": 1920}, "tokens": 21_000}
    edited(runs, lambda found: spent(found, **(twice if found["arm"] == "rival" else {})))
    found = notes_of(runs)
    assert found["base"] is None and found["v-zero S1"] is None
    said = "2.00x the questions, 2.00x the votes, 2.10x the tokens drawn (beside v-zero)"
    assert found["rival S1"] == said, "as many steps, and everything else doubled"


def test_equal_plans_are_equal_compute_whatever_the_models_write(runs: Path) -> None:
    for_rival = {"votes": {"label": 950}, "tokens": 10_400}  # an unreadable question, longer answers
    edited(runs, lambda found: spent(found, **(for_rival if found["arm"] == "rival" else {})))
    assert notes_of(runs)["rival S1"] is None


def test_the_total_is_said_first_and_never_called_equal_where_it_differs(runs: Path) -> None:
    def total(found: dict, flop: float) -> dict:
        compute = spent(found)["compute"]
        return {"compute": {**compute, "flop": flop}}

    edited(runs, lambda found: total(found, 1.31e12 if found["arm"] == "rival" else 1e12))
    assert notes_of(runs)["rival S1"] == "1.31x the total compute (beside v-zero)"
    edited(runs, lambda found: total(found, 1.01e12 if found["arm"] == "rival" else 1e12))
    assert notes_of(runs)["rival S1"] is None, "within the tolerance of 2 %"
    rows = {row.name: row for row in compare(load([runs])).rows}
    assert rows["rival S1"].compute_ratio == pytest.approx(1.01) and rows["v-zero S1"].compute_ratio == 1


@pytest.mark.slow
def test_a_total_that_was_estimated_is_marked_and_explained_wherever_it_is_shown(runs: Path) -> None:
    def total(found: dict, estimated: str | None) -> dict:
        return {"compute": {**spent(found)["compute"], "flop": 1e12, "estimated": estimated}}

    def shown(name: str) -> str:
        found = compare(load([runs]))
        return formats.render(found, name, others=[found])

    edited(runs, lambda found: total(found, None))
    assert "\u2248" not in shown("md") + shown("html") and "approx" not in shown("latex")
    # Of one alone: what the others are compared with is an estimate.
    edited(runs, lambda found: total(found, "mean lengths" if found["arm"] == "v-zero" else None))
    for text in (shown("md"), shown("html")):
        assert text.count("\u2248equal") == 2 and "estimated, by mean lengths." in text
    assert "\u22481.00x" in shown("html") and shown("latex").count(r"$\approx$equal") == 2
    assert json.loads(shown("json"))["rows"][1]["compute_estimated"] == "mean lengths"
    edited(runs, lambda found: {"compute": {**spent(found)["compute"], "flop": None}})
    assert "\u2248" not in shown("md")


def test_compute_is_compared_on_the_seeds_that_both_have(runs: Path) -> None:
    edited(runs, spent)
    shutil.rmtree(runs / "rival" / "seed-2")
    assert notes_of(runs)["rival S1"] is None, "the third seed of v-zero took more steps, as any third would"


def test_compute_that_one_seed_did_not_record_is_not_averaged_as_none(runs: Path) -> None:
    edited(runs, lambda found: spent(found) if (found["arm"], found["seed"]) != ("rival", 1) else {})
    assert notes_of(runs)["rival S1"] == "not recorded for both this arm and v-zero"


def test_no_questioner_is_said(runs: Path) -> None:
    steps = {"steps": {"questioner": 0, "solver": 4}}
    edited(runs, lambda found: spent(found, **(steps if found["arm"] == "rival" else {})))
    assert notes_of(runs)["rival S1"].startswith("no questioner steps, ")


def test_runs_with_other_settings_in_one_row_are_said(runs: Path) -> None:
    assert arms.mixed(compare(load([runs]))) == []
    edited(runs, lambda found: {"settings": "a" if found["arm"] == "rival" or found["seed"] else "b"})
    (said,) = arms.mixed(compare(load([runs])))
    assert said.startswith("WARNING: runs of v-zero with other settings share a row (seed-0, seed-1)")
    assert said in arms.notes(compare(load([runs])))


def test_what_is_no_evidence_is_not_judged(runs: Path) -> None:
    """A preset that is too small: numbers and a sentence; no colour, no verdict, no equal compute with
    another preset."""
    before = {one.name: one.scores["a"].gain.direction for one in compare(load([runs])).rows[1:]}
    assert before["v-zero S1"] == "positive"
    edited(runs / "v-zero", lambda found: {"preset": "tiny", "evidence": False, **spent(found)})
    edited(runs / "rival", spent)
    found = compare(load([runs]))
    rows = {one.name: one for one in found.rows}
    gain = rows["v-zero S1 (tiny)"].scores["a"].gain
    assert gain.gain > 0.1 and gain.direction == "unclear" and not rows["v-zero S1 (tiny)"].evidence
    assert rows["rival S1 (p)"].compute_note == "v-zero of preset p is not here"
    assert not any(one.measured for one in found.claims)
    assert any(one.startswith("Preset tiny is too small") for one in arms.notes(found))
    alone = compare(load([runs / "v-zero"]))
    assert alone.claims == [] and not any(one.tone in ("good", "bad") for one in gain_cells(alone))


def test_a_claim_is_judged_by_the_matched_form_where_that_was_run(runs: Path) -> None:
    """A frozen Questioner loses with half the steps, and not at equal ones."""
    for arm in ("frozen-questioner", "frozen-twice"):
        shutil.copytree(runs / "rival", runs / arm)
        edited(runs / arm, lambda found, arm=arm: {"arm": arm})

    def claim() -> ClaimVerdict:
        found = compare(load([runs])).claims
        return next(one for one in found if one.id == "vzero.order.frozen-questioner")

    assert claim().measured.basis == "v-zero S1 over frozen-twice S1"
    shutil.rmtree(runs / "frozen-twice")
    assert claim().measured.basis == "v-zero S1 over frozen-questioner S1"


@pytest.mark.parametrize("toy", ["model", "suites"])
def test_the_pocket_world_reproduces_and_contradicts_nothing(runs: Path, toy: str) -> None:
    def pocket(found: Mapping[str, Any]) -> dict[str, Any]:
        if toy == "model":
            return {"model": "pocket"}
        return {
            key: {f"pocket_{name}": one for name, one in found[key].items()} for key in ("suites", "items")
        }

    edited(runs, pocket)
    found = compare(load([runs]))
    measured = [one for one in found.claims if one.measured]
    assert measured and {one.verdict.value for one in measured} == {"TOY"}
    for name in ("md", "csv", "json", "html", "latex"):
        text = formats.render(found, name, [Path("/nowhere")] * 6)
        assert "REPRODUCED" not in text and "CONTRADICTED" not in text, name


def test_another_run_of_the_same_arm_and_seed_is_a_row_of_its_own(runs: Path) -> None:
    twin = runs.parent / f"{runs.name}-twin" / "theirs"
    found = artefacts.read_json(runs / "v-zero" / "seed-0" / "results.json")
    for columns in (block["outcomes"]["S1"] for block in found["items"].values()):
        columns["greedy"] = "0" * len(columns["greedy"])
    write(twin, found)
    rows = {one.name: one for one in compare(load([runs / "v-zero" / "seed-0"]), reference=load([twin])).rows}
    ours = rows["v-zero S1"].scores["a"]
    assert list(rows) == ["base", "v-zero S1", "v-zero of theirs S1"]
    assert (
        ours.gain.gain == pytest.approx(ours.value) and rows["v-zero of theirs S1"].scores["a"].gain is None
    )
