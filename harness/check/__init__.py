"""Did training still do what it says? Rules over a finished run's artefacts; any one broken fails the run.

formulas    the method's formulas, written a second time and from the paper: `vzero` cannot vouch for itself
exact       recorded rollouts, votes, labels and filter decisions against those formulas
learning    the weights moved, the loss is the objective, the KL term is in it and bounded
protocol    parse rates, truncation, whole suites, provenance
reference   the run's numbers beside those of a reference run, by tests; smoke.json is the one shipped
"""

from harness.check.run import check

__all__ = ["check"]
