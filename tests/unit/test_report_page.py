"""The report's page: its first sentence, the rows of its question browser, and the page in a real browser."""

from __future__ import annotations

import dataclasses
import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from harness.analysis.results import read_results
from harness.report import answer, cards, finish, questions
from harness.report.pictures import Picture, thumbnails
from harness.report.questions import Label, WrittenQuestion
from harness.stats import Gain
from harness.tables import html as html_tables
from tests.browser import Page, browser
from tests.fixtures import synthetic_run as synthetic
from vzero.images.records import ImageRecord
from vzero.pocket.ground_truth import Truth
from vzero.runtime import artefacts

pytestmark = pytest.mark.slow

RESULTS = Path(__file__).resolve().parents[2] / "results"
WIDTHS = (390, 768, 1400)
SHARPENED = "looks like sharpening (more consistent answers), and learning is not shown."
SIGNS = {"#": (0.09, "positive"), "+": (0.05, "positive"), "-": (-0.05, "negative"), "0": (0.001, "unclear")}


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("pages") / "run"
    synthetic.make(folder, count=40, items_per_family=4)
    finish(folder)
    return folder


@pytest.fixture(scope="module")
def results(run):
    return read_results(run / "results.json")


def labels(run: Path) -> list[dict]:
    return [
        row
        for t in (1, 2)
        for row in artefacts.read_jsonl(next(run.glob(f"stages/*-label-{t}")) / "labels.jsonl")
    ]


def embedded(page: str) -> dict:
    (found,) = re.findall(
        r'<script type="application/json" id="question-data">(.*?)</script>', page, re.DOTALL
    )
    return json.loads(found)


# the answer


def judged(results, directions: str):
    """The results with these average gains of greedy, T = 1, maj@10 and pass@10, a point to either side."""
    gains = {
        metric: Gain(
            **{"gain": size, "low": size - 0.01, "high": size + 0.01, "t_low": None},
            **{"t_high": None, "p": None, "test": "", "n": 84, "images": 84, "by_seed": (0.0,)},
            direction=direction,
        )
        for metric, (size, direction) in zip(results.metrics, map(SIGNS.get, directions), strict=True)
    }
    return results.model_copy(update={"gains": {"S2": {"average": gains}}})


@pytest.mark.parametrize(
    ("directions", "start", "end"),
    [
        ("++++", "Yes, in the pocket world: S2, the Solver after 2 iterations,", "looks like learning."),
        ("+#++", "Yes, in the pocket world: S2", "looks like sharpening and learning together."),
        ("+++-", "Yes, in the pocket world: S2", "open whether this is sharpening or learning."),
        ("+++0", "Yes, in the pocket world: S2", "open whether this is sharpening or learning."),
        ("++0+", "Yes, in the pocket world: S2", SHARPENED),
        ("++00", "Yes, in the pocket world: S2", SHARPENED),
        ("+0--", "In part, in the pocket world: S2", SHARPENED),
        ("0+00", "In part, in the pocket world: S2", SHARPENED),
        ("00+0", "No gain, in the pocket world: S2", "95 % interval \u22120.9 to +1.1)."),
        (
            "-0+0",
            "No, a loss, in the pocket world: S2",
            "\u22126.0 to \u22124.0; T = 1 +0.1 points, 95 % interval \u22120.9 to +1.1).",
        ),
        ("+-00", "Better and worse, in the pocket world: S2", "95 % interval \u22126.0 to \u22124.0."),
    ],
)
def test_one_sentence_says_whether_the_gain_is_real_and_of_which_kind(
    results, directions, start, end
) -> None:
    said = answer.answer(judged(results, directions)).replace("\u00a0", " ")
    assert said.startswith(start) and said.endswith(end), said
    assert ("learning" in said) == (bool({"+", "#"} & {*directions[:2]}) and "-" not in directions[:2])
    other = judged(results, directions).model_copy(update={"model": "qwen", "suites": {"mathvista": {}}})
    assert "pocket" not in answer.answer(other)


def test_tiles_hold_the_gain_its_kind_the_alarms_and_the_limits(results) -> None:
    gain, kind, alarms, reach = answer.tiles(judged(results, "++0-"))
    assert (
        gain.value == "+5.0\u00a0greedy, +5.0\u00a0T\u00a0=\u00a01"
        and gain.tone == "good"
        and "+4.0 to +6.0" in gain.lines[0]
    )
    assert (
        kind.value == "Sharpening"
        and "not significant" in kind.lines[0]
        and "pass@10: \u22125.0" in kind.lines[1]
    )
    assert len(results.alarms) == 1 and alarms.value == "1 alarm" and alarms.tone == "warn"
    assert alarms.lines[0].endswith(results.alarms[0].message)
    quiet = judged(results, "++0-").model_copy(update={"alarms": [], "warnings": ["of something"]})
    assert answer.tiles(quiet)[2].value == "none" and "1 warning besides." in answer.tiles(quiet)[2].lines
    assert "large models" in reach.lines[1] and reach.lines[2].endswith("11 about other models, 6 not run.")
    kinds = {one: answer.tiles(judged(results, one))[1] for one in ("++++", "##++", "+++0", "##+0", "+++-")}
    assert [one.value for one in kinds.values()] == ["Learning", "Both", "Open", "Sharpening", "Open"]
    assert kinds["++++"].lines[2] == "maj@10 and pass@10 both rise (+5.0, +5.0)."
    assert kinds["##+0"].lines[2].startswith("greedy gains more than maj@10 (+9.0 against +5.0 points, and")
    assert "T = 1 gains more than maj@10" in kinds["##+0"].lines[2]
    assert "pass@10 falls (\u22125.0). Sharpening would lift" in kinds["+++-"].lines[2]
    base = {metric: one.value for metric, one in results.average["base"].items()}
    sides = [
        f"{100 * abs(by):.1f} points {'above' if by >= 0 else 'below'}"
        for by in (base["maj@10"] - base[one] for one in ("sampled", "greedy"))
    ]
    (room,) = [line for line in kinds["++++"].lines if line.startswith("Headroom: ")]
    assert f"is {sides[0]} its T = 1 and {sides[1]} its greedy accuracy" in room
    assert f"pass@10 can rise by {100 * (1 - base['pass@10']):.1f} points at most" in room
    assert answer.tiles(judged(results, "00++"))[1].lines == ("There is no gain to explain.",)


def test_a_preset_that_is_no_evidence_has_a_banner_and_no_verdict(results) -> None:
    small = judged(results, "0000").model_copy(update={"evidence": False, "preset": "smoke", "claims": []})
    assert answer.answer(small).startswith("The preset smoke shows that the program runs.")
    found = answer.tiles(small)
    assert [one.value for one in found[:2]] == ["not judged"] * 2 and {one.tone for one in found} == {""}
    assert "better" not in str(found) and "worse" not in str(found)


# the rows of the browser


def test_rows_hold_every_question_with_its_votes_reward_and_truth(run) -> None:
    data = embedded((run / "report.html").read_text("utf-8"))
    found = [dict(zip(data["fields"], row, strict=True)) for row in data["questions"]]
    assert len(found) == 80 and Counter(one["state"] for one in found)["invalid"] == 10
    by_id = {one["id"]: one for one in found}
    for row in labels(run):
        one = by_id[row["question_id"]]
        cast = Counter("?" if vote is None else vote for vote in row["votes"])
        top = max(cast[letter] for letter in "ABCD") / 10
        reward = min(top, 1 - top) if row["answer"] == row["intuitive"] else top / 2
        assert dict(one["votes"]) == cast and one["state"] == ("kept" if row["kept"] else "dropped")
        assert one["confidence"] == pytest.approx(top)
        assert one["said"] == f"majority {row['answer']}, c = {top:.2f}, reward {reward:.2f}"
        assert sum(count for _, count in one["replies"]) == 10
        if one["verdict"] in ("right", "wrong"):
            assert one["truth"] == f"truth {one['truth'][6]}, label {one['verdict']}"
            assert (one["truth"][6] == row["answer"]) == (one["verdict"] == "right")
    assert {one["verdict"] for one in found} >= {"right", "wrong", "ill-posed"}
    pictures = {one["id"].split("-", 1)[1]: one["picture"] for one in found}
    assert len(set(pictures.values())) == len(data["pictures"]) == 40, "one copy for both iterations"


def test_one_question_that_trained_stands_at_the_top(run) -> None:
    page = (run / "report.html").read_text("utf-8")
    shown = re.search(r'<section id="example".*?</section>', page, re.DOTALL)[0]
    kept = {row["question_id"]: row for row in labels(run) if row["kept"]}
    row = kept[re.search(r'data-slot="id">([^<]+)<', shown)[1]]
    assert f"majority {row['answer']}, c = " in shown and "ill-posed" not in shown
    assert page.index('id="example"') < page.index('aria-label="Contents"') and "data:image" in shown
    invalid = dataclasses.replace(question(1, "?", "so"), state="dropped")
    assert questions.example([invalid]) is None


def question(number: int, text: str, reply: str) -> WrittenQuestion:
    label = Label(("A",) * 9 + (None,), tuple(f"{reply}{number} {i}" for i in range(10)), "A", 0.9, "A")
    return WrittenQuestion(
        f"q{number}", 1, "dropped", text, "A", "key", label, 0.1, Truth("sum", "B", True, False)
    )


def test_hostile_text_stays_text_and_three_thousand_questions_fit() -> None:
    hostile = "</script><!--<b>&amp;\u202e\ud800\x1b[31m\u2028" + "\u6f22" * 900
    asked = [question(number, hostile, hostile[:40]) for number in range(3000)]
    shown = cards.card(asked[0])
    text, held = cards.rows(asked, {"key": Picture("data:image/webp;base64,AAAA", True)})
    assert not re.search("[<>&\x1b\u202e\ud800]", text)
    data = json.loads(text)
    one = dict(zip(data["fields"], data["questions"][0], strict=True))
    assert (
        one["text"].startswith("</script><!--<b>&amp;\\u202e\\ud800\\x1b[31m") and one["text"] == shown.text
    )
    assert held == len(data["questions"]) and 1000 < held < 3000, "as many as there is space for"
    assert len(text.encode()) < cards.BYTES + cards.REPLIES + 100_000
    plain = [question(number, "what ? A) 1 B) 2 C) 3 D) 4" * 4, "so") for number in range(3000)]
    assert cards.rows(plain, {})[1] == 3000


def test_thumbnails_share_a_budget_and_a_lost_picture_is_none(tmp_path) -> None:
    records = []
    for number in range(6):
        path = tmp_path / f"{number}.png"
        Image.effect_noise((300, 200), 90).convert("RGB").save(path)
        records.append(ImageRecord(str(number), path, artefacts.sha256_file(path), 300, 200))
    roomy, tight = thumbnails(records, 10**6), thumbnails([*records, records[0]], 12_000)
    assert len(roomy) == len(tight) == 6
    assert sum(len(one.uri) for one in tight.values()) < 12_000 < sum(len(one.uri) for one in roomy.values())
    records[2].path.write_bytes(b"gone")
    assert set(thumbnails(records, 12_000)) == {one.sha256 for one in records if one is not records[2]}


# in a real browser


@pytest.fixture(scope="module")
def tab() -> Iterator[Page]:
    with browser() as page:
        yield page


@pytest.fixture
def page(tab: Page, run: Path) -> Page:
    tab.problems.clear()
    tab.show(1400)
    tab.open(run / "report.html")
    return tab


def unfold(page: Page, every: bool = False) -> None:
    which = "details" if every else "details:has(> #browser)"
    page.run(f"document.querySelectorAll('{which}').forEach(one => {{ one.open = true; }})")
    page.run("new Promise(done => setTimeout(done, 50))")  # the toggle event comes in a task of its own


def count(page: Page) -> int:
    return int(page.run("document.getElementById('question-count').textContent").split(" ")[0])


def test_nothing_overflows_and_every_text_can_be_read(page: Page) -> None:
    for dark in (False, True):
        page.show(1400, dark=dark)
        assert page.faint() == [], dark
    for every in (False, True):
        if every:
            unfold(page, every=True)
        for width in WIDTHS:
            page.show(width)
            assert page.overflow() == 0, (every, width)
    for dark in (False, True):
        page.show(390, dark=dark)
        assert page.faint() == [], dark
    assert page.problems == []


def test_tables_of_words_fit_the_window_and_stand_as_lines_on_a_narrow_one(page: Page) -> None:
    unfold(page, every=True)
    wide = "document.querySelector('#departures .scroll')"
    for width in WIDTHS:
        page.show(width)
        assert page.run(f"{wide}.scrollWidth - {wide}.clientWidth") <= 0, width
    cell = "#departures tbody tr td:nth-child(3)"
    label = page.run(f"getComputedStyle(document.querySelector('{cell}'), '::before').content")
    page.show(390)
    narrow = page.run(f"getComputedStyle(document.querySelector('{cell}'), '::before').content")
    assert (label, narrow) == ("none", '"paper or its code: "')


@pytest.mark.parametrize("name", ["pocket/arms.html", "profile/profile.html"])
def test_pages_among_the_results_are_of_this_version_and_can_be_read(tab: Page, name: str) -> None:
    """After a change of the style: vzero-harness table results/pocket/arms --metric T=1 --format html --out
    results/pocket/arms.html (and svg, frontier.svg); harness.perf.profile.page.render of profile.json."""
    path = RESULTS / name
    assert html_tables.environment("harness.tables").get_template("style.css").render() in path.read_text(
        "utf-8"
    )
    tab.problems.clear()
    for every in (False, True):
        tab.show(1400)
        tab.open(path)
        if every:
            unfold(tab, every=True)
        for width in WIDTHS:
            tab.show(width)
            assert tab.overflow() == 0, (every, width)
        for dark in (False, True):
            tab.show(1400, dark=dark)
            assert tab.faint() == [], (every, dark)
    assert tab.problems == []


def test_words_of_the_page_are_explained_on_it(page: Page) -> None:
    """Each word of the tables that a reader may not know stands in the list at the top."""
    words = page.run("document.querySelector('dl.words').textContent")
    for word in ("greedy", "T = 1", "maj@10", "pass@10", "label", "kept", "well-posed", "ill-posed", "hard"):
        assert word in words, word
    ours = "[...document.querySelectorAll('header, #findings, #claims, #questions, #departures')]"
    shown = page.run(f"{ours}.map(one => one.textContent).join(' ')")
    assert "`" not in shown and "**" not in shown, "no marks of Markdown"
    assert "README, README" not in shown and "abstract, abstract" not in shown


def test_on_paper_every_part_is_there_and_no_table_is_cut(page: Page) -> None:
    """A4 without margins of 1 cm, printed from a dark screen."""
    page.show(717, dark=True, paper=True)
    page.run("new Promise(done => setTimeout(done, 50))")
    assert page.overflow() == 0 and page.faint() == []
    assert page.run("getComputedStyle(document.body).backgroundColor") == "rgb(253, 253, 251)"
    parts = "[...document.querySelectorAll('details.part > div')]"
    assert page.run(f"{parts}.every(one => one.getBoundingClientRect().height > 20)")
    assert page.run("document.querySelectorAll('table').length") > 8
    right = "[...document.querySelectorAll('td, th')].map(one => one.getBoundingClientRect().right)"
    assert page.run(f"Math.max(...{right})") <= 717
    assert page.run("document.querySelector('#question-sample .sample').getBoundingClientRect().height") > 50
    for gone in (".controls", "#question-cards", ".pages", "nav"):
        assert page.run(f"document.querySelector('{gone}').getClientRects().length") == 0, gone
    page.show(1400)
    assert page.problems == []


def test_filters_and_search_show_what_they_say(page: Page, run: Path) -> None:
    unfold(page)
    rows = labels(run)
    data = embedded((run / "report.html").read_text("utf-8"))
    found = [dict(zip(data["fields"], row, strict=True)) for row in data["questions"]]

    def choose(**wanted: str) -> int:
        page.run("document.getElementById('question-clear').click()")
        for name, value in wanted.items():
            kind = "input" if name in ("search", "low", "high") else "change"
            place = f"#question-{name}" if kind == "input" else f"[data-filter={name}]"
            page.run(
                f"(() => {{ const e = document.querySelector('{place}'); e.value = {json.dumps(value)}; "
                f"e.dispatchEvent(new Event('{kind}')); }})()"
            )
        return count(page)

    assert choose() == 80
    assert choose(state="kept") == sum(row["kept"] for row in rows)
    assert choose(state="dropped", iteration="2") == sum(
        not row["kept"] for row in rows if row["question_id"].startswith("2-")
    )
    assert choose(low="0.3", high="0.8") == sum(0.29 < row["confidence"] < 0.81 for row in rows)
    assert choose(verdict="wrong") == sum(one["verdict"] == "wrong" for one in found) > 0
    assert choose(verdict="ill-posed") == sum(one["verdict"] == "ill-posed" for one in found) > 0
    family = next(one["family"] for one in found if one["family"])
    assert choose(family=family) == sum(one["family"] == family for one in found)
    assert choose(search="1-POCKET-0-00003") == 1 and choose(search="no such words") == 0
    assert page.problems == []


def test_hostile_questions_are_text_in_the_page(page: Page) -> None:
    unfold(page)
    page.run("document.getElementById('question-search').value = 'alert'")
    page.run("document.getElementById('question-search').dispatchEvent(new Event('input'))")
    assert count(page) > 4
    shown = page.run("document.querySelector('#question-cards .model').textContent")
    assert shown.startswith("<script>alert(1)</script><img src=x") and "\\u202e" in shown
    assert page.run("document.querySelectorAll('#question-cards :is(script, b i, [onerror])').length") == 0
    assert page.problems == []


def test_the_keyboard_reaches_every_question_and_every_control(page: Page) -> None:
    unfold(page)
    focus = "document.activeElement.querySelector?.('[data-slot=id]')?.textContent"
    reached = []
    for _ in range(80):
        page.press("j")
        reached.append(page.run(focus))
    assert len(set(reached)) == 80, "over the ends of pages"
    page.press("j")
    assert page.run(focus) == reached[-1]
    for key in ("k", "ArrowUp", "ArrowLeft"):
        page.press(key)
    assert page.run(focus) == reached[-4]
    page.press("/")
    page.press("j")
    assert page.run("document.activeElement.id + document.activeElement.value") == "question-searchj"
    page.run("document.activeElement.blur(); scrollTo(0, 0)")
    page.run(
        "window.all = [...document.querySelectorAll('a, summary, input, select, button:enabled, [tabindex]')]"
    )
    page.run("all = all.filter(one => one.checkVisibility({contentVisibilityAuto: true}))")
    wanted = page.run("all.length")
    seen = set()
    for _ in range(wanted + 2):
        page.press("Tab")
        seen.add(page.run("all.indexOf(document.activeElement)"))
    assert seen >= set(range(wanted)) and wanted > 30
    assert page.problems == []


def test_a_link_of_the_contents_opens_its_part(page: Page) -> None:
    links = page.run("[...document.querySelectorAll('nav a')].map(e => e.getAttribute('href').slice(1))")
    assert "browser" in links and len(links) == page.run("document.querySelectorAll('details.part').length")
    for name in links:
        page.run(f"document.querySelector('nav a[href=\"#{name}\"]').click()")
        assert page.run(f"document.getElementById('{name}').closest('details').open"), name


def test_without_script_a_sample_can_be_read(page: Page, run: Path) -> None:
    page.open(run / "report.html", script=False)
    page.call("Emulation.setScriptExecutionDisabled", value=False)  # for this test's own questions
    unfold(page)
    assert page.run("document.querySelectorAll('#question-sample .sample img').length") == 20
    assert page.run("document.getElementById('question-sample').checkVisibility()")
    assert not page.run("document.getElementById('question-controls').checkVisibility()")
    assert page.run("document.querySelectorAll('#question-cards > *').length") == 0
