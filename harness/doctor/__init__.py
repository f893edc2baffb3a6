"""Is this machine able to do it, and if not, what to do: facts are collected once, then judged by pure
functions. Nothing is imported here: a run asks `capabilities` alone, before its first line."""
