"""Programs that need what stages import, in forks of one process that has imported it, as a run's own stages
are; a new Python would import for ten seconds before each."""

from __future__ import annotations

import json
import os
import runpy
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from harness.runs.fork_server import ForkServer
from harness.runs.supervise import Child, StartedStage

ROOT = Path(__file__).resolve().parents[1]
FIXED = {
    "OMP_NUM_THREADS": "2",  # as of a run's stages: a thread that an import starts would be missed
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}",  # the latter for this file, as `warm`
}


@dataclass
class Program:
    """A running one, as far as it is like `subprocess.Popen`; `out` and `err` are its streams' files."""

    child: Child
    out: Path
    err: Path
    returncode: int | None = None

    def poll(self) -> int | None:
        return self._waited(0)

    def send_signal(self, number: int) -> None:
        os.killpg(self.child.pid, number)

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        if self._waited(timeout) is None:
            self.send_signal(signal.SIGKILL)
            raise TimeoutError(self.err.read_text())
        return self.out.read_text(), self.err.read_text()

    def _waited(self, seconds: float | None) -> int | None:
        if self.returncode is None and self.child.wait(seconds):
            code = self.child.end()[0]
            self.returncode = 128 - code if code > 128 else code
        return self.returncode


class Warm:
    """Starts programs: `words` are those of Python's command line (-c, -m or a file). Where no process can be
    forked, they are started."""

    def __init__(self, folder: Path) -> None:
        self.server, self.folder, self.number = ForkServer(), folder, count()
        self.environment = {**os.environ, **FIXED}
        for name in ("OPENAI_API_KEY", "OPENAI_API_URL"):
            self.environment.pop(name, None)

    def start(self, *words: str, cwd: Path = ROOT, **environment: str) -> Program:
        place = self.folder / str(next(self.number))
        place.mkdir()
        out, err = place / "out", place / "err"
        given = ["warm", str(out), str(err), str(cwd), json.dumps(environment), *words]
        with open(out, "wb") as stream, open(err, "wb") as log:
            forked = self.server.start(given, self.environment, log.fileno(), log.fileno())
            if forked is not None:
                return Program(forked, out, err)
            command, env = [sys.executable, *words], {**self.environment, **environment}
            started = subprocess.Popen(
                command, cwd=cwd, env=env, stdout=stream, stderr=log, start_new_session=True
            )
            return Program(StartedStage(started), out, err)

    def run(self, *words: str, cwd: Path = ROOT, **environment: str) -> subprocess.CompletedProcess[str]:
        program = self.start(*words, cwd=cwd, **environment)
        out, err = program.communicate(1800)
        return subprocess.CompletedProcess(words, program.returncode or 0, out, err)


def main(out: str, err: str, cwd: str, environment: str, *words: str) -> None:
    """In the fork."""
    sys.path.remove(str(ROOT / "tests"))
    for stream, path in ((1, out), (2, err)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), stream)
    os.chdir(cwd)
    os.environ.update(json.loads(environment))
    tempfile.tempdir = None
    sys.modules["torch"].set_num_threads(1)
    kind, *rest = words
    sys.argv = list(words) if kind not in ("-c", "-m") else rest
    programs: dict[str, Callable[[], object]] = {
        "-m": lambda: runpy.run_module(rest[0], run_name="__main__", alter_sys=True),
        "-c": lambda: exec(compile(rest[0], "<string>", "exec"), {"__name__": "__main__"}),
    }
    programs.get(kind, lambda: runpy.run_path(kind, run_name="__main__"))()


if __name__ == "__main__":
    main(*sys.argv[1:])
