"""The measured agreement as Markdown: a pure function of what `harness.evals.agreement` measured and of the
hand-judged cases."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

JUDGEMENTS = {
    "published": "the published extraction is wrong: the response says something else, or chooses nothing",
    "ours": "ours is wrong: the response says what was published",
    "ambiguous": "the response contradicts itself, or names several answers",
}


def markdown(measured: Mapping[str, Any], judged: Mapping[str, Mapping[str, str]]) -> str:
    """The page. `judged`: run -> id -> one of `JUDGEMENTS`, for disagreements of class "differs"."""
    mathvista, logicvista = measured["mathvista"], measured["logicvista"]
    parts = [
        "# Agreement with published extractions\n",
        "Written by `python -m harness.evals.agreement DATA --out results/extractors`; what the columns mean stands in README.md.\n",
        "## MathVista: same verdict as the published `true_false`\n",
        _table(
            (
                "run",
                "n",
                "same verdict, %",
                "empty",
                "without empty ones, %",
                "answer read, %",
                "of these same, %",
            ),
            [
                (
                    r["run"],
                    r["n"],
                    _p(r["same_verdict"]),
                    r["empty"],
                    _p(r["same_verdict_answered"]),
                    _p(r["parsed"]),
                    _p(r["same_verdict_parsed"]),
                )
                for r in mathvista
            ]
            + [
                (
                    "mean",
                    "",
                    _mean(mathvista, "same_verdict"),
                    "",
                    _mean(mathvista, "same_verdict_answered"),
                    "",
                    _mean(mathvista, "same_verdict_parsed"),
                )
            ],
        ),
        "## MathVista: what the scorer is worth\n",
        _table(
            (
                "run",
                "published",
                "from published extractions",
                "official",
                "strict",
                "official - strict",
                "parsed",
            ),
            [
                (
                    r["run"],
                    *(
                        _p(r[key])
                        for key in ("published", "from_published_extractions", "official", "strict")
                    ),
                    _p(r["official"] - r["strict"]),
                    _p(r["parsed"]),
                )
                for r in mathvista
            ],
        ),
        "## LogicVista: same label set as the published extraction\n",
        _logicvista(logicvista, judged),
        "## Classes of disagreement\n",
        "\n".join(f"- **{name}**: {text}" for name, text in measured["classes"].items()) + "\n",
        _classes("MathVista", mathvista, measured["classes"]),
        _classes("LogicVista", logicvista, measured["classes"]),
        "### Those that differ, judged by hand\n",
        "\n".join(f"- **{name}**: {text}" for name, text in JUDGEMENTS.items()) + "\n",
        _judged([*mathvista, *logicvista], judged),
    ]
    return "\n".join(parts)


def pooled(runs: Sequence[Mapping[str, Any]], kind: str = "stated") -> float | None:
    """Share of equal label sets over the runs, among the responses that state one, or that are "committed" to
    one."""
    found = sum(run[kind] for run in runs)
    return sum(run[kind] * run[f"same_labels_{kind}"] for run in runs if run[kind]) / found if found else None


def _logicvista(runs: Sequence[Mapping[str, Any]], judged: Mapping[str, Mapping[str, str]]) -> str:
    head = (
        "run",
        "n",
        "states one",
        "same of these, %",
        "names just it",
        "same of these, %",
        "same of the clear ones, %",
        "same of all, %",
    )
    head += ("published", "strict", "parsed, %")
    rows = []
    for run in runs:
        shares = (
            _clear([run], judged),
            run["same_labels_all"],
            run["published"],
            run["strict"],
            run["parsed"],
        )
        stated = (
            run["stated"],
            _p(run["same_labels_stated"]),
            run["committed"],
            _p(run["same_labels_committed"]),
        )
        rows.append((run["run"], run["n"], *stated, *map(_p, shares)))
    sums = (
        "together",
        sum(r["n"] for r in runs),
        sum(r["stated"] for r in runs),
        _p(pooled(runs)),
        sum(r["committed"] for r in runs),
        _p(pooled(runs, "committed")),
        _p(_clear(runs, judged)),
        "",
        "",
        "",
        "",
    )
    return _table(head, [*rows, sums])


def _clear(runs: Sequence[Mapping[str, Any]], judged: Mapping[str, Mapping[str, str]]) -> float | None:
    """The same share without the responses that were judged by hand to be ambiguous, or wrongly read by the
    published extraction."""
    same = sum(round(run["stated"] * (run["same_labels_stated"] or 0)) for run in runs)
    differs = [
        (run["run"], key) for run in runs for key, kind in run["disagreements"].items() if kind == "differs"
    ]
    unclear = sum(judged.get(name, {}).get(key) in ("published", "ambiguous") for name, key in differs)
    stated = sum(run["stated"] for run in runs) - unclear
    return same / stated if stated else None


def _classes(title: str, runs: Sequence[Mapping[str, Any]], classes: Iterable[str]) -> str:
    used = [name for name in classes if any(name in run["classes"] for run in runs)]
    rows = [(run["run"], *(run["classes"].get(name, "") for name in used)) for run in runs]
    return _table(
        (title, *used),
        [*rows, ("together", *(sum(run["classes"].get(name, 0) for run in runs) for name in used))],
    )


def _judged(runs: Sequence[Mapping[str, Any]], judged: Mapping[str, Mapping[str, str]]) -> str:
    rows = []
    for run in runs:
        differs = [key for key, kind in run["disagreements"].items() if kind == "differs"]
        found = Counter(judged.get(run["run"], {}).get(key, "not judged") for key in differs)
        if differs:
            rows.append(
                (run["run"], len(differs), *(found.get(name, "") for name in (*JUDGEMENTS, "not judged")))
            )
    return _table(("run", "differs", *JUDGEMENTS, "not judged"), rows)


def _table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    lines = [f"| {' | '.join(head)} |", f"|---|{'--:|' * (len(head) - 1)}"]
    return "\n".join([*lines, *(f"| {' | '.join(map(str, row))} |" for row in rows), ""])


def _p(rate: float | None) -> str:
    return "" if rate is None else f"{100 * rate:.1f}"


def _mean(runs: Sequence[Mapping[str, Any]], key: str) -> str:
    return _p(sum(run[key] for run in runs) / len(runs))
