"""Where the time goes: the same classes as the stages use, run a few times on one batch, counted and timed.

    measure(preset, options, say)   -> the profile as one JSON-able object
    render.show, render.markdown, page.render -> pure renderers of it

`counts` and `flops` are free of the hardware and exact; `clock`, `memory` and `roofline` measure this
machine; `generation` and `training` run the phases; `stock` is the other side of a comparison.
docs/performance.md has the formulas.
"""
