"""A comparison as CSV, one line a number. Shares and gains are fractions of 1; text can be no formula in a
spreadsheet."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from typing import Any

COLUMNS = (
    "kind",
    "row",
    "arm",
    "checkpoint",
    "model",
    "seeds",
    "suite",
    "metric",
    "value",
    "low",
    "high",
    "n",
    "expected",
    "gain",
    "gain_low",
    "gain_high",
    "p",
    "p_holm",
    "direction",
    "detectable",
    "unparsed",
    "truncated",
    "compute",
    "source",
)
_FORMULA = (
    "=",
    "+",
    "-",
    "@",
    "\t",
    "\r",
    "\n",
    "\uff1d",
    "\uff0b",
    "\uff0d",
    "\uff20",
)  # the last four: full-width forms, read alike


def guarded(value: Any) -> Any:
    """Text that a spreadsheet would take for a formula gets an apostrophe in front; numbers stay numbers."""
    if not isinstance(value, str):
        return value
    plain = value.replace("\x00", "").encode("utf-8", "backslashreplace").decode()
    return f"'{plain}" if plain.lstrip(" ").startswith(_FORMULA) else plain


def render(comparison: Mapping[str, Any]) -> str:
    """The whole file, with a header line."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, COLUMNS, restval="", lineterminator="\r\n")
    writer.writeheader()
    for line in _lines(comparison):
        writer.writerow({key: guarded(value) for key, value in line.items() if value is not None})
    return stream.getvalue()


def _lines(comparison: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    metric = comparison["metric"]
    kind = "greedy" if metric == "greedy" else "sampled"
    for row in comparison["rows"]:
        common = {"kind": row["kind"], "row": row["name"], "model": row["model"]}
        if row["kind"] != "measured":
            for suite, numbers in row["cells"].items():
                for one in numbers:
                    printed = {
                        "metric": one["metric"],
                        "value": one["value"],
                        "n": one["n"],
                        "source": row["source"],
                    }
                    yield {**common, "suite": suite, **printed}
            continue
        common |= {
            "arm": row["arm"],
            "checkpoint": row["checkpoint"],
            "seeds": " ".join(map(str, row["seeds"])),
            "metric": metric,
        }
        common |= {
            "unparsed": row[f"unparsed_{kind}"],
            "truncated": row[f"truncated_{kind}"],
            "compute": row["compute_note"],
        }
        for suite, cell in row["cells"].items():
            if cell is not None:
                gain = cell["gain"] or {}
                numbers = {key: cell[key] for key in ("value", "low", "high", "n", "expected")}
                numbers |= {
                    "gain": gain.get("gain"),
                    "gain_low": gain.get("low"),
                    "gain_high": gain.get("high"),
                }
                yield {
                    **common,
                    "suite": suite,
                    **numbers,
                    **{key: gain.get(key) for key in ("p", "p_holm", "direction", "detectable")},
                }
