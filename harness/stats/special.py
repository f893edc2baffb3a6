"""The special functions of scipy that statistics use.

While scipy is imported it copies all that numpy shows, and numpy then imports what it had put off: f2py and
testing, a ninth of what a command that prints a table imports. Nothing here uses them, so they are not shown
meanwhile.
"""

from __future__ import annotations

import numpy

_PUT_OFF = frozenset({"f2py", "testing"}) - vars(numpy).keys()
_SHOWN = {name: vars(numpy)[name] for name in ("__all__", "__dir__")}
_PUBLIC, _ATTRIBUTES = (
    [one for one in names if one not in _PUT_OFF] for names in (numpy.__all__, dir(numpy))
)
vars(numpy).update(__all__=_PUBLIC, __dir__=lambda: _ATTRIBUTES)
try:
    from scipy.special import bdtr, ndtr, ndtri, stdtr, stdtrit
finally:
    vars(numpy).update(_SHOWN)

__all__ = ["bdtr", "ndtr", "ndtri", "stdtr", "stdtrit"]
