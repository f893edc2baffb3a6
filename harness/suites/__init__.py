"""Real benchmarks: which there are, where their rows come from, how a checkpoint is asked and its answers are kept and scored.

`records/*.yaml` declare the suites, `fields` reads their rows, `data` opens and pins them, `run` asks a checkpoint through lmms-eval,
`results` turns stored answers into numbers by `harness.scoring`. Only `run` and what it calls import lmms-eval, which takes seconds.
"""
