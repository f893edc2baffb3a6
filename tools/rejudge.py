"""Judge stored results anew: corrected p-values, directions and verdicts on claims, by today's rules.

    python tools/rejudge.py results/pocket/arms      # every results.json below it

Gains, intervals and everything else that was measured stay as they are.
"""

from __future__ import annotations

import sys
from pathlib import Path

from harness.analysis.build import judged
from harness.analysis.results import FILE, parse_results, read_json, write_results


def main(places: list[str]) -> None:
    """Rewrite every results.json at or below `places`."""
    for path in sorted(path for place in places for path in Path(place).rglob(FILE)):
        stored = read_json(path)
        if isinstance(stored, dict):
            write_results(path, judged(parse_results({**stored, "claims": []}, str(path))))


if __name__ == "__main__":
    main(sys.argv[1:])
