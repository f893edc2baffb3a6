"""Results and reports of a synthetic run: numbers against counts by hand, hostile text inert in every format,
incompleteness said aloud."""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import io
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import markupsafe
import pytest
from PIL import Image
from rich.console import Console
from scipy import stats as scipy_stats

from harness.analysis.build import build, judged
from harness.analysis.results import Results, read_results
from harness.claims import departures
from harness.report import cards, charts, findings, finish, held_out, print_summary, sections
from harness.report.examples import changed_answers
from harness.report.questions import spread
from harness.runs.sealed import read_run
from harness.stats import Gain, Interval
from harness.tables import charts as parts
from harness.tables import markdown, words
from vzero.errors import InputError
from vzero.presets import content, load_preset
from vzero.runtime import artefacts

COMMITTED = Path(__file__).resolve().parents[2] / "results" / "pocket" / "arms"


def _load(name: str):
    path = Path(__file__).parent.parent / "fixtures" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


synthetic = _load("synthetic_run")


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "whole"
    synthetic.make(run)
    finish(run)
    return run


@pytest.fixture(scope="module")
def results(whole) -> Results:
    return read_results(whole / "results.json")


@pytest.fixture(scope="module")
def page(whole) -> str:
    return (whole / "report.html").read_text(encoding="utf-8")


@pytest.mark.slow
def test_a_report_says_which_arm_it_is_of(results: Results, page: str) -> None:
    name = [results.preset, f"seed {results.seed}"]
    assert findings.run_name(results) == name and "arm v-zero" not in page.split("</h1>")[0]
    other = results.model_copy(update={"arm": "r-zero"})
    assert findings.run_name(other) == [name[0], "arm r-zero", name[1]]


def rows_of(run: Path, stage: str) -> list[dict]:
    return artefacts.read_jsonl(run / "stages" / stage / "samples.jsonl")


def summary(run: Path, width: int = 130) -> str:
    stream = io.StringIO()
    print_summary(run, Console(file=stream, width=width), verbose=True)
    return stream.getvalue()


# results


def test_accuracies_are_the_counts_in_the_samples(whole, results):
    for suite in results.suites:
        rows = [row for row in rows_of(whole, "01-evaluate-base") if row["suite"] == suite]
        found = results.suites[suite]["base"]
        assert found.accuracy["greedy"].value == pytest.approx(
            sum(r["greedy"]["answer"] == r["gold"] for r in rows) / len(rows)
        )
        right = [[one["answer"] == r["gold"] for one in r["sampled"]] for r in rows]
        assert found.accuracy["sampled"].value == pytest.approx(sum(map(sum, right)) / (10 * len(rows)))
        assert found.accuracy["pass@10"].value == pytest.approx(sum(map(any, right)) / len(rows))
        assert found.accuracy["greedy"].n == len(rows)
        assert found.unparsed_sampled.model_dump() == {
            "value": sum(one["answer"] is None for r in rows for one in r["sampled"]),
            "n": 10 * len(rows),
        }
        assert found.truncated_greedy.value == sum(r["greedy"]["finish_reason"] == "length" for r in rows)
        room = found.accuracy["maj@10"].value - found.accuracy["greedy"].value
        assert results.headroom[suite] == pytest.approx(room)


def test_gains_are_paired_differences_and_the_average_is_their_mean(results):
    for model in ("S1", "S2"):
        for metric in results.metrics:
            differences = [
                models[model].accuracy[metric].value - models["base"].accuracy[metric].value
                for models in results.suites.values()
            ]
            gains = [results.gains[model][suite][metric].gain for suite in results.suites]
            assert gains == pytest.approx(differences)
            assert results.gains[model]["average"][metric].gain == pytest.approx(sum(differences) / 3)
    assert results.gains["S1"]["average"]["greedy"].direction == "positive"
    assert results.gains["S1"]["pocket_math"]["greedy"].test == "mcnemar"


def test_the_probe_is_compared_with_the_base_and_with_the_last_solver(whole, results):
    right = {
        stage: [
            row["greedy"]["answer"] == row["gold"]
            for row in rows_of(whole, stage)
            if row["suite"] == "pocket_math"
        ]
        for stage in ("01-evaluate-base", "11-evaluate-2", "12-probe-2")
    }
    share = {stage: sum(found) / len(found) for stage, found in right.items()}
    probe = results.elicitation
    assert (probe.words, probe.model) == (2, "S2")
    level = probe.suites["pocket_math"].accuracy["greedy"].value
    assert level == pytest.approx(share["12-probe-2"], abs=1e-6)
    assert probe.elicited["pocket_math"]["greedy"].gain == pytest.approx(
        share["12-probe-2"] - share["01-evaluate-base"], abs=1e-6
    )
    assert probe.beyond["pocket_math"]["greedy"].gain == pytest.approx(
        share["11-evaluate-2"] - share["12-probe-2"], abs=1e-6
    )
    (said,) = (one for one in findings.findings(results) if one.startswith("Is it only another way"))
    for level in (results.average["base"], probe.average, results.average["S2"]):
        assert f"{words.percent(level['greedy'].value)}\u00a0%" in said
    assert set(results.models) == {"base", "S1", "S2"}


def test_a_probe_that_was_run_is_not_among_what_was_not(whole, results, page):
    assert not any("probe" in one for one in findings.not_run(results))
    without = results.model_copy(update={"elicitation": None})
    assert any("probe" in one for one in findings.not_run(without))
    for text in (page, (whole / "report.md").read_text(encoding="utf-8")):
        assert "elicitation probe" not in text


def test_p_values_are_corrected_over_all_gains_of_the_report(results):
    probe = results.elicitation
    tables = [*results.gains.values(), *results.gains_over_previous.values(), probe.elicited, probe.beyond]
    shown = [gain for places in tables for metrics in places.values() for gain in metrics.values()]
    assert len(shown) == 5 * 4 * 4, "S1, S2, S2 over S1, both of the probe; three suites and their mean"
    expected = scipy_stats.false_discovery_control([gain.p for gain in shown])
    assert [gain.p_corrected for gain in shown] == pytest.approx(list(expected), abs=2e-8)
    assert any(gain.direction != "unclear" for gain in shown)
    assert all(gain.direction == "unclear" for gain in shown if gain.p_corrected > 0.05)


@pytest.mark.slow
def test_results_are_a_pure_function_of_the_sealed_stages(whole, results, tmp_path):
    moved = tmp_path / "elsewhere"
    shutil.copytree(whole, moved)
    for manifest in moved.glob("stages/*/manifest.json"):  # another machine, another speed
        value = artefacts.read_json(manifest)
        value["facts"]["seconds"], value["provenance"]["python"] = 1e6, "9.9"
        del value["digest"]
        artefacts.write_json(manifest, value)
    again = finish(moved)
    assert (moved / "results.json").read_bytes() == (whole / "results.json").read_bytes()
    text = results.model_dump_json()
    assert str(whole) not in text and "seconds" not in text and again.complete is True


# partial, stale and changed runs


@pytest.mark.slow
def test_a_run_killed_half_way_says_so_everywhere(tmp_path):
    run = tmp_path / "half"
    synthetic.make(run, stop_after="07-train-questioner-2")
    found = finish(run)
    assert not found.complete and found.missing["08-write-questions-2"] == "not started"
    assert found.models == ["base", "S1"] and set(found.ground_truth) == {1}
    page, text = (run / "report.html").read_text(), (run / "report.md").read_text()
    for shown in (page, text, summary(run)):
        assert "incomplete" in shown and "08-write-questions-2" in shown
        assert "not evaluated yet are 11-evaluate-2" in " ".join(shown.split())
    assert "S2 answers" not in page


@pytest.mark.slow
@pytest.mark.parametrize("stop", ["00-images", "01-evaluate-base", "03-write-questions-1"])
def test_very_early_reports_claim_no_gain(tmp_path, stop):
    run = tmp_path / "early"
    synthetic.make(run, stop_after=stop)
    found = finish(run)
    assert found.gains == {}
    assert "no gain to judge yet" in (run / "report.html").read_text() and "no gain to judge yet" in summary(
        run
    )


def test_a_run_without_any_stage_still_reports(tmp_path):
    run = tmp_path / "none"
    synthetic.make(run, stop_after="00-images")
    shutil.rmtree(run / "stages")
    assert len(finish(run).missing) == 13
    assert "the base has not been evaluated" in summary(run)


@pytest.mark.slow
def test_stages_made_from_other_inputs_do_not_count(whole, tmp_path):
    run = tmp_path / "stale"
    shutil.copytree(whole, run)
    folder = run / "stages" / "04-label-1"
    labels = artefacts.read_jsonl(folder / "labels.jsonl")
    artefacts.write_jsonl(folder / "labels.jsonl", labels[:-1])
    artefacts.seal(
        folder, artefacts.sealed(folder)["spec"]
    )  # labels made again, the Solver below them was not
    found = build(read_run(run))
    assert found.missing["05-train-solver-1"] == "made from other inputs than the ones here"
    assert found.models == ["base"]


def test_a_changed_sealed_file_is_refused(whole, tmp_path):
    run = tmp_path / "changed"
    shutil.copytree(whole, run)
    path = run / "stages" / "06-evaluate-1" / "samples.jsonl"
    path.write_text(path.read_text().replace('"answer": "A"', '"answer": "B"', 1))
    with pytest.raises(InputError, match=r"06-evaluate-1/samples\.jsonl is not the file that was sealed"):
        finish(run)


def test_not_a_run_and_no_results_yet(tmp_path):
    with pytest.raises(InputError, match="not a run directory"):
        finish(tmp_path)
    with pytest.raises(InputError, match=r"no results\.json yet"):
        print_summary(tmp_path, Console(file=io.StringIO()))


# wording


def test_words_never_claim_more_than_the_direction():
    def verdict(greedy: str, sampled: str) -> str:
        return findings.verdict("S1", "the base", greedy, sampled)

    assert verdict("unclear", "unclear") == "S1 is not significantly different from the base"
    assert "more" in verdict("positive", "positive")
    assert "fewer" in verdict("negative", "negative")
    assert "at T = 1; with greedy answers the difference is not" in verdict("unclear", "positive")
    assert "with its greedy answers; at T = 1 the difference is not" in verdict("negative", "unclear")
    assert "better than the base in one measure and worse" in verdict("positive", "negative")


def test_options_stand_on_lines_of_their_own():
    shown = ["how many ?", "A) 1", "B) 2", "C) 3", "D) 4"]
    assert cards.question_lines("how many ? A) 1 B) 2 C) 3 D) 4") == shown


# HTML


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict]] = []
        self.text: list[str] = []

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.text.append(data)


def parsed(page: str) -> _Page:
    found = _Page()
    found.feed(page)
    return found


def test_html_is_one_inert_file(page):
    found = parsed(page)
    assert synthetic.HOSTILE[:25] in "".join(found.text), "the hostile text is shown, as text"
    data, code = [attributes for tag, attributes in found.tags if tag == "script"]
    assert data["type"] == "application/json" and code == {}, "the one script is the page's own"
    scripts = re.findall(r"<script[^>]*>(.*?)</script>", page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(scripts[1].encode()).digest()).decode()
    assert len(scripts) == 2 and f"script-src 'sha256-{digest}'" in page and "<" not in scripts[0]
    for tag, attributes in found.tags:
        assert not any(name.startswith("on") for name in attributes), (tag, attributes)
        assert attributes.get("href", "#")[0] == "#" and tag not in {
            "iframe",
            "object",
            "embed",
            "link",
            "base",
            "form",
        }
        if tag == "img":
            assert attributes.get("src", "data:image/").startswith("data:image/")
    assert "\x1b" not in page and "\u202e" not in page and "{{ 7*7 }}" in page
    assert "default-src 'none'" in page and "url(" not in page and "@import" not in page


def test_html_shows_twenty_questions_of_all_states_with_real_pictures(page):
    found = parsed(page)
    classes = [attributes.get("class", "") for tag, attributes in found.tags if tag == "span"]
    counts = {state: classes.count(f"tag {state}") for state in ("kept", "dropped", "invalid")}
    assert (
        sum(counts.values()) == 20 + 1  # and one at the top
        and counts["kept"] >= 8 + 1
        and counts["dropped"] >= 6
        and counts["invalid"] == 2
    )
    pictures = [attributes["src"] for tag, attributes in found.tags if tag == "img" and "src" in attributes]
    assert len(pictures) == 1 + 20 + 12, "twelve changed answers have theirs too"
    image = Image.open(io.BytesIO(base64.b64decode(pictures[0].split(",")[1])))
    assert image.size == (42, 42)


def test_html_holds_every_part(page):
    text = " ".join("".join(parsed(page).text).split())
    for part in (
        "Held-out accuracy",
        "What was asked, and what the labels were worth",
        "Is c the chance that the label is right?",
        "Learning curves",
        "Question browser",
        "192 of 192 questions",
        "Sharpening or learning",
        "Answers that changed",
        "What was not run",
        "published claims not run",
        "TOY: holds there",
        "By family of held-out question",
        "Cost",
        "Provenance",
        "S2 answers more",
        "S2 is not significantly different from S1",
        "pocket_math",
        "manifest, SHA-256",
    ):
        assert part in text, part


def test_departures_from_the_paper_are_in_the_results_and_folded_on_the_page(whole, results, page):
    assert results.departures and results.departures == departures.of_preset(read_run(whole).preset)
    folded = page.split("Departures from the paper</h2>")[1].split("</details>")[0]
    assert f"{len(results.departures)} departures;" in folded
    for one in results.departures:
        ours, theirs = (text.replace("`", "").replace("*", "") for text in (one.ours, one.theirs))
        assert folded.count(str(markupsafe.escape(ours))) >= 1
        assert markdown.plain(theirs) in (whole / "report.md").read_text(encoding="utf-8")
    older = results.model_copy(update={"departures": None})
    assert sections.tables(Results.model_validate(older.model_dump()), ())["departures"] is None


def test_changed_answers_are_counted_and_shown_with_their_own_picture(whole, results, page):
    from vzero.pocket.suites import items

    base, after = (
        {row["item_id"]: row for row in rows_of(whole, stage)}
        for stage in ("01-evaluate-base", "11-evaluate-2")
    )
    for suite, found in results.flips["S2"].items():
        own = [name for name, row in base.items() if row["suite"] == suite]
        right = {
            name: (
                base[name]["greedy"]["answer"] == base[name]["gold"],
                after[name]["greedy"]["answer"] == base[name]["gold"],
            )
            for name in own
        }
        assert sorted(found.lost) == sorted(name for name in own if right[name] == (True, False))
        assert sorted(found.gained) == sorted(name for name in own if right[name] == (False, True))
    chosen = changed_answers(read_run(whole))
    assert sorted(one.gained for one in chosen) == [False] * 6 + [True] * 6
    drawn = {item.item_id: item for item in items(chosen[0].suite, "test", 12)}
    shown = Image.open(io.BytesIO(base64.b64decode(chosen[0].picture.uri.split(",")[1])))
    assert (
        shown.tobytes() == drawn[chosen[0].item_id].image.tobytes()
        and chosen[0].question == drawn[chosen[0].item_id].question
    )
    assert len(page.encode()) < 8_000_000


@pytest.mark.slow
def test_a_users_pictures_are_reencoded_thumbnails_and_a_lost_one_is_said(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(6):
        secret = Image.Exif()
        secret[0x010E] = "SECRET CAPTION"
        Image.effect_noise((900, 600), 40 + number).convert("RGB").save(
            folder / f"p{number}.jpg", exif=secret
        )
    run = tmp_path / "run"
    synthetic.make(run, images=folder)
    (folder / "p3.jpg").write_bytes(b"changed")
    found = finish(run)
    page = (run / "report.html").read_text()
    sources = re.findall(r"data:image/\w+;base64,[\w+/=]+", page)
    assert sources and b"SECRET" not in b"".join(base64.b64decode(source.split(",")[1]) for source in sources)
    assert max(Image.open(io.BytesIO(base64.b64decode(sources[0].split(",")[1]))).size) == 384
    assert "The picture is left out, no longer there, or changed." in page
    assert found.ground_truth[1].label_accuracy is None and "no known truth" in page
    assert found.images.model_dump() == {"source": "folder", "used": 6, "skipped": 1}
    for name in ("report.html", "report.md", "results.json"):
        assert str(folder) not in (run / name).read_text()


# Markdown


def test_markdown_tables_keep_their_columns_and_text_stays_text(whole):
    text = (whole / "report.md").read_text(encoding="utf-8")
    width = None
    for line in text.split("\n"):
        if line.startswith("|"):
            columns = len(re.findall(r"(?<!\\)\|", line))
            assert width in (None, columns), line
            width = columns
        else:
            width = None
    hostile = [line for line in text.split("\n") if "alert" in line]
    assert hostile
    for line in hostile:
        assert line.startswith("- **"), "one item, one line"
        body = line.split("**", 2)[2]
        assert (
            not re.search(r"[<>]", body) and not re.search(r"(?<!\\)[`*_\[\]]", body) and "https\\:" in body
        )


def test_markdown_escape_by_hand():
    assert (
        markdown.escape("a|b `c` <d> [e](f)\n# g &lt;")
        == "a&#124;b \\`c\\` &lt;d&gt; \\[e\\]\\(f\\) \\# g &amp;lt\\;"
    )


# terminal


def test_summary_shows_findings_tables_and_paths(whole, results):
    shown = summary(whole)
    flat = " ".join(shown.split())
    gain = results.gains["S2"]["average"]["greedy"]
    assert f"{words.points(gain.gain)} ({words.interval(gain.low, gain.high)})" in flat
    for part in (
        "S2 answers more",
        "label right, kept",
        "unparsed, greedy",
        "maj@10",
        "report.html",
    ):
        assert part in flat
    assert f"{words.percent(results.average['S1']['sampled'].value)}" in flat


@pytest.mark.parametrize("width", [60, 80, 200])
def test_summary_fits_the_terminal_and_reads_no_markup(whole, tmp_path, width):
    run = tmp_path / "named"
    run.mkdir()
    value = artefacts.read_json(whole / "results.json") | {"warnings": ["[red]not markup[/red] \x1b[31m"]}
    artefacts.write_json(run / "results.json", value)
    shown = summary(run, width)
    assert "[red]not markup[/red] \\x1b[31m" in " ".join(shown.split())
    rules = [line for line in shown.split("\n") if "\u2500" in line]
    assert rules and max(map(len, rules)) <= width


# parts


def test_twins_render_the_same_numbers(results, page, whole):
    text, shown = (whole / "report.md").read_text(), summary(whole, 300)
    for row in held_out.accuracy(results).rows:
        for cell in row[2:]:
            assert cell.text in page and cell.text in text and cell.text in shown


def test_samples_do_not_depend_on_the_order_of_rows():
    states = {f"q{i}": ("kept", "dropped", "invalid")[i % 3] for i in range(90)}
    chosen = spread(states, 20)
    assert chosen == spread(dict(reversed(states.items())), 20) and len(chosen) == 20
    assert spread({"a": "invalid"}, 20) == {"a"}
    assert len(spread({f"q{i}": "kept" for i in range(90)}, 20)) == 20


def test_the_first_sentence_tells_iterations_levels_and_gains_by_hand(results):
    def gain(value, low, high, direction):
        other = {
            "t_low": low,
            "t_high": high,
            "p": None,
            "test": "",
            "n": 1350,
            "images": 1,
            "by_seed": (value,),
        }
        return Gain(gain=value, low=low, high=high, direction=direction, **other)

    def changed(gains):
        return results.model_copy(
            update={
                "gains": {"S2": {"average": gains}},
                "gains_over_previous": {},
                "average": levels,
                "suites": {"one": {}, "two": {}},
                "elicitation": None,
            }
        )

    average = {
        "greedy": gain(0.034, 0.011, 0.057, "positive"),
        "sampled": gain(0.079, 0.0004, 0.089, "positive"),
        "maj@10": gain(0.011, -0.007, 0.03, "unclear"),
        "pass@10": gain(-0.016, -0.026, -0.008, "negative"),
    }
    shares = {"base": (0.799, 0.706, 0.858), "S2": (0.833, 0.785, 0.869)}
    levels = {
        model: {
            metric: Interval(value=value, low=None, high=None, n=1350)
            for metric, value in zip(average, values, strict=False)
        }
        for model, values in shares.items()
    }
    assert [sentence.replace("\u00a0", " ") for sentence in findings.findings(changed(average))] == [
        "After 2 iterations, S2 answers more held-out questions right than the base: greedy from 79.9 to "
        "83.3 % (+3.4 points, 95 % interval +1.1 to +5.7), T = 1 from 70.6 to 78.5 % (+7.9, +0.04 to +8.9), "
        "maj@10 from 85.8 to 86.9 % (+1.1, \u22120.7 to +3.0); average of 2 suites, 1,350 questions.",
        "Sharpening or learning? Open: neither is significant. pass@10 falls (\u22121.6). Sharpening would "
        "lift single answers more than maj@10; learning would lift both maj@10 and pass@10.",
    ]
    better = {
        **average,
        "maj@10": average["maj@10"].model_copy(update={"direction": "positive"}),
        "pass@10": average["pass@10"].model_copy(update={"direction": "unclear"}),
    }
    (said,) = findings.said_of_nature(changed(better), "S2")
    assert said.startswith("Sharpening or learning? Open: ")
    apart = {**better, "sampled": gain(0.079, 0.0301, 0.089, "positive")}  # maj@10 ends at 3.0
    (said,) = findings.said_of_nature(changed(apart), "S2")
    assert "? Sharpening: T = 1 gains more than maj@10 (+7.9 against +1.1 points" in said
    nothing = {name: one.model_copy(update={"direction": "unclear"}) for name, one in average.items()}
    found = findings.findings(changed(nothing))
    start = "After 2 iterations, S2 is not significantly different from the base: greedy from 79.9"
    assert len(found) == 1 and found[0].startswith(start)


def test_a_run_that_is_no_evidence_judges_nothing(results):
    assert not load_preset("smoke").evidence and load_preset("pocket").evidence
    small = judged(results.model_copy(update={"evidence": False, "preset": "smoke"}))
    tables = [*small.gains.values(), *small.gains_over_previous.values(), small.elicitation.elicited]
    shown = [gain for places in tables for metrics in places.values() for gain in metrics.values()]
    assert {gain.direction for gain in shown} == {"unclear"} and small.claims == []
    assert [one.gain for one in small.gains["S2"]["average"].values()] == [
        one.gain for one in results.gains["S2"]["average"].values()
    ]
    (said,) = findings.findings(small)
    assert said.startswith("The preset smoke shows that the program runs.") and "better" not in said


def test_what_determines_a_run_but_its_seed(results):
    plain = content(load_preset("pocket"))
    same = ("seed=3", "engine.gpu_memory=0.5", "step_matched=[5, 5]", "evaluation.data=elsewhere")
    assert all(content(load_preset("pocket", [one])) == plain for one in same)
    other = ("solver.grpo.learning_rate=1e-6", "evaluation.limit=4", "images.count=9")
    assert all(content(load_preset("pocket", [one])) != plain for one in other)
    assert re.fullmatch("[0-9a-f]{12}", results.settings)


def test_judging_anew_changes_nothing(results):
    assert judged(results) == results


def test_families_that_carry_the_greedy_gain_are_named():
    found = read_results(COMMITTED / "v-zero" / "seed-0" / "results.json")
    (said,) = findings.carried(found, "S2")
    assert said in findings.findings(found)
    numbers = [float(one.replace("\u2212", "-")) for one in re.findall(r"[+\u2212][\d.]+\d", said)]
    gain = found.gains["S2"]["average"]["greedy"].gain
    assert len(numbers) == 2 and abs(sum(numbers) - 100 * gain) < 0.11 and numbers[0] > 50 * gain
    (math,) = (by for suite, by in found.families.items() if suite == "pocket_math")
    rises = {name: by["S2"].accuracy["greedy"] - by["base"].accuracy["greedy"] for name, by in math.items()}
    best = sorted(rises, key=rises.get, reverse=True)[:3]
    assert all(f"{name} (" in said for name in best) and said.count("to 100.0") == 3
    few = {suite: dict(list(by.items())[:2]) for suite, by in found.families.items()}
    assert findings.carried(found.model_copy(update={"families": few}), "S2") == [], "three of six are many"
    unclear = read_results(COMMITTED / "v-zero" / "seed-1" / "results.json")
    assert unclear.gains["S2"]["average"]["greedy"].direction == "unclear"
    assert findings.carried(unclear, "S2") == []


@pytest.mark.slow
def test_on_one_suite_of_several_the_corrected_p_decides(tmp_path):
    """Six won and none lost of 84 is p = .03 alone, and not beside the other gains of the report."""
    run = tmp_path / "run"
    synthetic.make(run, count=16)
    answers = {"01-evaluate-base": 0, "06-evaluate-1": 6}
    for stage, right in answers.items():
        folder = run / "stages" / stage
        rows = artefacts.read_jsonl(folder / "samples.jsonl")
        math = [row for row in rows if row["suite"] == "pocket_math"]
        for row in rows:
            row["greedy"]["answer"] = None
        for row in math[:right]:
            row["greedy"]["answer"] = row["gold"]
        artefacts.write_jsonl(folder / "samples.jsonl", rows)
        artefacts.seal(folder, artefacts.sealed(folder)["spec"])
    gain = build(read_run(run)).gains["S1"]["pocket_math"]["greedy"]
    assert gain.p == pytest.approx(2 / 2**6) and gain.p_corrected > 0.05
    assert gain.low > 0 and gain.t_low > 0 and gain.direction == "unclear"


def test_ticks_are_round_and_inside():
    assert parts.ticks(0, 1, 4) == [0, 0.5, 1.0]
    assert parts.ticks(-3, 28, 5) == [0, 10, 20]
    assert parts.ticks(2, 2) == [2]


def test_running_mean_by_hand():
    assert charts.smooth([0, 3, 6, 9], 3) == [1.5, 3, 6, 7.5]
    assert charts.smooth([5], 1) == [5]


def test_charts_survive_odd_numbers():
    chart = str(charts.curve("a <b>", {1: [(1, 0.5), (2, float("nan")), (3, 0.5)], 2: []}))
    assert "nan" not in chart and "a &lt;b&gt;" in chart
    assert charts.curve("x", {1: [(1, float("inf"))]}) == ""
    flat = str(charts.curve("share", {1: [(1, 0.0), (2, 0.0)]}))
    assert (
        ">0</text>" in flat and ">-" not in flat
    )  # nothing below zero on the axis of a share that stayed zero


@pytest.mark.slow
def test_many_unreadable_answers_are_a_warning_and_few_are_none(tmp_path):
    run = tmp_path / "warned"
    synthetic.make(run, stop_after="01-evaluate-base", items_per_family=4)
    folder = run / "stages" / "01-evaluate-base"
    rows = artefacts.read_jsonl(folder / "samples.jsonl")
    for row in rows:
        row["greedy"] |= {"answer": "A", "finish_reason": "stop"}
        row["sampled"] = [{**one, "answer": "A", "finish_reason": "stop"} for one in row["sampled"]]
    math = [row for row in rows if row["suite"] == "pocket_math"]
    for row in math[:3]:
        row["greedy"] |= {"answer": None, "finish_reason": "length"}
    artefacts.write_jsonl(folder / "samples.jsonl", rows)
    artefacts.seal(folder, artefacts.sealed(folder)["spec"])
    n = len(math)  # of which three are more than the 5 % that need a word
    assert build(read_run(run)).warnings == [
        f"base on pocket_math: 3 of {n} greedy answers could not be read; 3 of {n} greedy answers were "
        "truncated."
    ]
