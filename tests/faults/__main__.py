"""`python tests/faults`: the campaign of faults as a program, which prints what was tried, by kind."""

from __future__ import annotations

import argparse
import os
import platform
import sys
from dataclasses import asdict
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[2]


def main() -> int:
    """Exit code 1 where something did not hold."""
    parser = argparse.ArgumentParser("make faults", description=(__doc__ or "").partition(": ")[2])
    parser.add_argument("--seconds", type=float, default=600, help="for all kinds together (default: 600)")
    parser.add_argument("--tries", type=int, default=10**9, help="of each kind, at most")
    parser.add_argument("--kinds", default="", help="part of the names of those wanted (default: all)")
    parser.add_argument("--seed", type=int, default=0, help="another one: other tries (default: 0)")
    parser.add_argument("--out", type=Path, help="a JSON file for what was found")
    options = parser.parse_args()
    sys.path.insert(0, str(ROOT))
    sys.modules["tests"] = ModuleType("tests")  # some installed package has this name as well
    sys.modules["tests"].__path__ = [str(ROOT / "tests")]
    import vzero

    if Path(vzero.__file__).parents[1] != ROOT:  # as an environment that has it from elsewhere begins with
        parser.error(f"vzero is imported from {Path(vzero.__file__).parents[1]}; set PYTHONPATH={ROOT}")
    from tests.faults.campaign import KINDS, campaign
    from vzero.runtime import artefacts

    kinds, rows = [kind for kind in KINDS if options.kinds in kind], []
    if not kinds:
        parser.error(f"no kind has {options.kinds!r} in its name; there are {'; '.join(KINDS)}")
    print(f"{'':18}{'tried':>8}{'held':>8}{'failed':>8}{'seconds':>9}")
    for row in campaign(kinds, options.seed, options.tries, options.seconds):
        rows.append(row)
        print(f"{row.kind:18}{row.tried:8}{row.held:8}{len(row.failures):8}{row.seconds:9.0f}", flush=True)
        for failure in row.failures:
            print(f"    {failure}"[:2000], flush=True)
    tried, held = sum(row.tried for row in rows), sum(row.held for row in rows)
    print(f"{'all':18}{tried:8}{held:8}{tried - held:8}{sum(row.seconds for row in rows):9.0f}")
    if options.out:
        about = {**artefacts.provenance(), "processor": platform.machine(), "cores": os.cpu_count()}
        found = {"seed": options.seed, "about": about, "kinds": [asdict(row) for row in rows]}
        artefacts.write_json(options.out, found)
    return 1 if held < tried else 0


if __name__ == "__main__":
    sys.exit(main())
