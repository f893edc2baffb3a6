"""The evidence of finished runs: sealed stages -> typed results, and results of several runs beside each
other."""
