"""The evidence around the method: runs that survive interruption, held-out evaluation, statistics, reports
and the command line."""
