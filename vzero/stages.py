"""Which program runs which stage of training: `python -m vzero.stages RUN STAGE`.

The top of the method: everything else may be imported from here, and nothing imports this.
"""

from __future__ import annotations

import pkgutil
import sys
from collections.abc import Mapping
from functools import partial

from vzero.runtime.stage import Facts, Program, StageContext, main


def _run(place: str, context: StageContext) -> Facts:
    """Imports the program when it is called: a short stage does not pay for the trainer's imports."""
    program: Program = pkgutil.resolve_name(place)
    return program(context)


PROGRAMS: Mapping[str, Program] = {
    "images": partial(_run, "vzero.images.stage:run"),
    "choose-images": partial(_run, "vzero.arms.labelled_images:run"),
    "train-questioner": partial(_run, "vzero.questioner:run_training"),
    "write-questions": partial(_run, "vzero.questioner:run_writing"),
    "label": partial(_run, "vzero.solver:run_labelling"),
    "recycle": partial(_run, "vzero.arms.recycling:run"),
    "check-options": partial(_run, "vzero.arms.answerability:run"),
    "select": partial(_run, "vzero.arms.selection:run"),
    "train-solver": partial(_run, "vzero.solver:run_training"),
}

if __name__ == "__main__":
    sys.exit(main(PROGRAMS, sys.argv[1:]))
