"""A disk that fails, and an account that may have no more threads or files, are said as such and resumed
from: never a bad model, a bad picture or a damaged record."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from harness import cli
from harness.evals import saved
from harness.runs import supervise
from harness.runs.directory import opened
from harness.runs.folder import RECORD
from tests import tiny_model
from tests.warm import Warm
from vzero.errors import InputError, InterruptedRun, RolloutError, machine_failure
from vzero.images import files, folder
from vzero.images.decoding import Unusable
from vzero.presets import load_preset
from vzero.rollout.streaming import as_rollout_error
from vzero.rollout.vocabulary import read_vocabulary
from vzero.runtime import artefacts, checkpoints, hub, stage
from vzero.selfplay import plan

MACHINES = {
    errno.ENOSPC: "No space left",
    errno.EIO: r"The disk of .* failed",
    errno.ESTALE: r"The disk of .* failed",
    errno.EMFILE: "no more files",
    errno.EAGAIN: "no more threads",
}

SUITE = SimpleNamespace(name="a suite")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model.build(tmp_path_factory.mktemp("tiny") / "base")


Reader = tuple[str, Callable[[Path], object], type[Exception]]
READERS: list[Reader] = [
    ("transformers.AutoModelForImageTextToText.from_pretrained", checkpoints.load_model, InputError),
    ("transformers.AutoProcessor.from_pretrained", checkpoints.load_processor, InputError),
    ("transformers.AutoImageProcessor.from_pretrained", checkpoints.load_image_processor, InputError),
    ("transformers.AutoConfig.from_pretrained", read_vocabulary, InputError),
    ("huggingface_hub.snapshot_download", lambda _: hub.snapshot("a/b", "model", ()), InputError),
    ("os.open", lambda model: files.open_below(model / "config.json", model), Unusable),
    ("os.scandir", lambda model: list(folder.files(model)), InputError),
    ("harness.evals.saved._described", lambda model: saved.load(SUITE, "test", model), InputError),
]


@pytest.mark.parametrize("place", range(len(READERS)), ids=[name for name, *_ in READERS])
@pytest.mark.parametrize("number", MACHINES)
def test_what_reads_a_file_blames_the_machine(
    model: Path, monkeypatch: pytest.MonkeyPatch, place: int, number: int
) -> None:
    name, read, otherwise = READERS[place]

    def fails(*_: object, **__: object) -> None:
        try:
            raise OSError(number, os.strerror(number), "/data/model")
        except OSError as error:  # libraries wrap what they meet
            raise (error if name.startswith("os.") else OSError(f"Cannot load it: {error}")) from error

    def absent(*_: object, **__: object) -> None:
        raise FileNotFoundError(errno.ENOENT, "No such file", "/data/model")

    with monkeypatch.context() as patched:
        patched.setattr(name, fails)
        with pytest.raises(InterruptedRun, match=MACHINES[number]) as said:
            read(model)
        assert "run the same command again" in str(said.value)
        patched.setattr(name, absent)
        with pytest.raises(otherwise):
            read(model)


def test_a_record_that_cannot_be_read_now_is_not_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    preset = load_preset("smoke")
    with opened(tmp_path, preset, "test"):
        (tmp_path / "stages").mkdir()
    before, real = (tmp_path / RECORD).read_bytes(), artefacts.read_json

    def fails(path: Path) -> object:
        if path.name == RECORD:
            raise OSError(errno.EIO, "Input/output error", str(path))
        return real(path)

    monkeypatch.setattr(artefacts, "read_json", fails)
    with (
        pytest.raises(InterruptedRun, match=r"The disk of \S*run\.json failed"),
        opened(tmp_path, preset, "test"),
    ):
        pass
    assert (tmp_path / RECORD).read_bytes() == before and (tmp_path / "stages").is_dir()


def test_nothing_else_is_the_machines() -> None:
    for error in (ValueError("x"), FileNotFoundError(errno.ENOENT, "gone"), RuntimeError("size mismatch")):
        assert machine_failure(error, "/data") is None
    try:
        try:
            raise OSError(errno.EIO, "handled before")
        except OSError:
            raise ValueError("of its own") from None
    except ValueError as error:
        assert machine_failure(error, "/data") is None
    with pytest.raises(RolloutError), as_rollout_error("what"):
        raise RuntimeError("size mismatch")


def test_a_stage_and_a_command_that_may_start_no_thread_are_resumable(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def start(*_: object) -> None:
        with as_rollout_error("The model could not be asked"):
            raise RuntimeError("can't start new thread")

    monkeypatch.setattr(stage, "run_stage", start)
    assert stage.main({}, ["run", "00-images"]) == 75
    assert cli.explain(RuntimeError("can't start new thread")) == 75
    assert cli.explain(BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")) == 75
    said = capsys.readouterr().err
    assert said.count("no more threads") == said.count("\n") == 3


@pytest.mark.parametrize(
    "line",
    [
        "libgomp: Thread creation failed: Resource temporarily unavailable",
        "OpenBLAS blas_thread_init: pthread_create failed for thread 1 of 2: Resource temporarily",
        "ERROR; return code from pthread_create() is 11",
        "RuntimeError: can't start new thread",
    ],
)
def test_a_stage_that_a_library_ended_for_want_of_threads(tmp_path: Path, line: str) -> None:
    log = tmp_path / "stage.log"
    log.write_text(f"of an earlier attempt\n{line}\n")
    begin = log.read_text().index(line)
    done = supervise.StageProcess(supervise.StartedStage(subprocess.Popen(["true"])), log, begin)
    one = plan(load_preset("smoke"))[0]
    found = supervise.failure(one, 1, done)
    assert isinstance(found, InterruptedRun) and "no more threads" in str(found)
    done.log_start = len(log.read_text())  # what an earlier attempt met
    assert not isinstance(supervise.failure(one, 1, done), InterruptedRun)
    assert done.poll(60) == 0


LIMITED = """
import ctypes, os, resource, struct, sys
from pathlib import Path
from vzero.errors import VZeroError
from vzero.runtime import checkpoints
if os.geteuid() == 0:  # whom the limit does not hold: another account, that may read all files
    libc = ctypes.CDLL(None)
    override, version = 1 << 1, 0x20080522
    kept = libc.prctl(8, 1, 0, 0, 0)  # PR_SET_KEEPCAPS
    try:
        os.setresuid(54321, 54321, 54321)
    except OSError:
        sys.exit(9)
    if kept or libc.capset(struct.pack("Ii", version, 0), struct.pack("6I", override, override, 0, 0, 0, 0)):
        sys.exit(9)
resource.setrlimit(resource.RLIMIT_NPROC, (1, 1))
try:
    checkpoints.load_model(Path(sys.argv[1]))
except VZeroError as error:
    print(error.exit_code, error)
"""


@pytest.mark.slow
def test_a_model_that_loads_where_no_thread_may_start(warm: Warm, model: Path) -> None:
    done = warm.run("-c", LIMITED, str(model))
    if done.returncode == 9:
        pytest.skip("no limit of threads holds for root, and no other account can be had (capset)")
    assert done.stdout.startswith("75 This account or container may start no more threads"), done
    assert resource.getrlimit(resource.RLIMIT_NPROC)[0] != 1
