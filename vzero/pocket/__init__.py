"""The pocket world: a complete, tiny stand-in for photographs, benchmarks and a 7B model.

Scenes are drawn, so every question about them has a computable answer. Training never sees those answers; the
harness keeps them in the shadow and measures what label-free training does to the truth. Only a preset, an
image source, suites and a checkpoint are special here: stages, trainer and engines are the ones real models
use.
"""
