"""The pocket world: a complete, tiny stand-in for photographs, benchmarks and a 7B model.

Scenes are drawn, so every question about them has a computable answer. Training never sees these answers; the
harness measures by them what label-free training does to the truth. Only a preset, an image source, suites
and a checkpoint are special here: stages, trainer and engines are those of real models.
"""
