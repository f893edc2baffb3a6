"""`finish`, in a process of its own: `python -m harness.report RUN`."""

import gc
import sys
from pathlib import Path

from harness.report import finish

gc.disable()  # it ends when it is done; looking for garbage was an eighth of its time
finish(Path(sys.argv[1]))
