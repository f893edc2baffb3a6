"""`python -m harness.profiling.cost`: the estimate for Qwen2.5-VL 3B and 7B as Markdown on standard output."""

from __future__ import annotations


def main() -> None:
    """Estimate and print."""
    from harness.profiling.cost.assumptions import Card, Workload
    from harness.profiling.cost.iteration import estimate
    from harness.profiling.cost.models import NAMES, shape_named
    from harness.profiling.cost.report import markdown

    work, card = Workload(), Card()
    print(markdown({name: estimate(shape_named(name), work, card) for name in NAMES}, work, card), end="")


if __name__ == "__main__":
    main()
