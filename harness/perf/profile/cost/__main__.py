"""`python -m harness.perf.profile.cost`: the estimate for Qwen2.5-VL 3B and 7B as Markdown on standard
output."""

from __future__ import annotations

OTHER_LENGTHS = (0.5, 2.0)  # times those assumed


def main() -> None:
    """Estimate and print."""
    from harness.perf.profile.cost.assumptions import Card, Workload
    from harness.perf.profile.cost.iteration import estimate
    from harness.perf.profile.cost.models import NAMES, shape_named
    from harness.perf.profile.cost.report import markdown

    work, card = Workload(), Card()
    shapes = {name: shape_named(name) for name in NAMES}
    found, *others = (
        {name: estimate(shape, work.longer(factor), card) for name, shape in shapes.items()}
        for factor in (1.0, *OTHER_LENGTHS)
    )
    print(markdown(found, dict(zip(OTHER_LENGTHS, others, strict=True)), work, card), end="")


if __name__ == "__main__":
    main()
