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
# Two optimizer steps of each role on half the prompts.
BATCHES = (
    "questioner.grpo.prompts_per_generation=8",
    "questioner.grpo.prompts_per_step=4",
    "questioner.grpo.micro_batch=16",
    "solver.grpo.prompts_per_generation=4",
    "solver.grpo.prompts_per_step=2",
    "solver.grpo.micro_batch=10",
)
