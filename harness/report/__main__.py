"""`finish`, in a process of its own: `python -m harness.report RUN`."""

import sys
from pathlib import Path

from harness.report import finish

finish(Path(sys.argv[1]))
