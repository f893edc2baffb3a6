"""Suites of the pocket world and benchmarks, asked through lmms-eval and scored by `harness.scoring`.

A suite's way: `catalogue` names it, `rows` opens it, `fields` reads a row as a question, `tasks` and `hooks`
tell lmms-eval, `model` lets an engine answer into the `store`, `build` makes `results` of what is stored.
`run` does all of it, for `vzero-harness evaluate` and for the evaluate and probe stages of a run (`stage`).
"""
