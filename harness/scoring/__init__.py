"""Answers made anywhere, scored twice: by the suite's published rules (official) and by rules without a gift
(strict).

`extract` reads an answer out of a response, `lenses` judges it, `total` sums up, `sources` loads the
questions. Nothing heavy is imported.
"""
