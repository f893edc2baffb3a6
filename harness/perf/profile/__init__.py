"""Where the time goes: the same classes as the stages use, run a few times on one batch, counted and timed.

    profile.measure(preset, options, trace, say) -> results.Profile
    tables, page                                  pure views of it

`counts` is free of the hardware and exact; `clock`, `memory` and `roofline` measure this machine;
`generation` and `training` run the phases; `stock` is the other side of a comparison. docs/performance.md has
the formulas.
"""
