"""Evaluation: held-out suites, run by lmms-eval with our own tasks and our own model adapter.

`stage` is the program of the "evaluate" stages, `suites` says what can be evaluated, `metrics` turns the
stored answers into numbers. Only `stage` (in its own process) imports lmms-eval, which takes seconds.
"""
