"""What one iteration would cost a large model: operations by formula over simulated lengths, seconds by a
share of a GPU's roof.

    python -m harness.perf.profile.cost            -> Markdown for Qwen2.5-VL 3B and 7B
    training.py, drawing.py                     work of a training pass and of drawing, stock and ours, lever by lever
    iteration.py                                the phases of an iteration
    assumptions.py                              everything that is assumed

Nothing here has been measured. Counts of the same formulas are checked against forward hooks on the pocket
model in the tests.
"""
