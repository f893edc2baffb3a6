"""The smallest run of the preset `smoke` that trains, filters and evaluates, for grids."""

SETTINGS = (
    "questioner.grpo.max_generations=1",
    "solver.grpo.max_generations=1",
    "solver.keep_low=0",
    "solver.keep_high=1",
    "evaluation.suites=['pocket_math']",
    "evaluation.items_per_family=2",
    "evaluation.sampled.n=2",
    "engine.threads=1",
)
