"""What a stage asks of a cluster, who is blamed when it fails, and what one machine keeps of it: nothing."""

from __future__ import annotations

import itertools
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.cluster import placement, ranks, session
from harness.cluster.part import End, Part, Place, require_alike
from harness.commands import engines
from harness.runs import ledger, supervise
from harness.runs.supervise import StageProcess
from vzero.config import Preset
from vzero.errors import InputError, InterruptedRun, VZeroError
from vzero.presets import load_preset
from vzero.runtime import artefacts
from vzero.selfplay import Stage, plan

ROOT = Path(__file__).resolve().parents[2]
MACHINES = [Place("10.0.0.1", "one", 29500, {}), Place("10.0.0.2", "two", 29501, {})]
CLOSED = "Stage x failed: RuntimeError: [gloo/transport/tcp/pair.cc:534] Connection closed by peer"


def two_machines(*words: str) -> Preset:
    return load_preset("smoke", ["launch.nodes=2", "launch.strategy=ddp", "launch.cluster=auto", *words])


def stage_of(preset: Preset, kind: str) -> Stage:
    return next(one for one in plan(preset) if one.kind == kind)


def fits_somehow(shares: list[dict[str, float]], machines: list[dict[str, float]]) -> bool:
    """By trying every placement."""
    for places in itertools.product(range(len(machines)), repeat=len(shares)):
        used: list[dict[str, float]] = [{} for _ in machines]
        for place, share in zip(places, shares, strict=True):
            for name, count in share.items():
                used[place][name] = used[place].get(name, 0) + count
        if all(
            have.get(name, 0) >= count
            for have, one in zip(machines, used, strict=True)
            for name, count in one.items()
        ):
            return True
    return False


@given(
    st.integers(0, 4),
    st.sampled_from([{"CPU": 1.0}, {"CPU": 2.0}, {"CPU": 1.0, "GPU": 1.0}, {"CPU": 2.0, "GPU": 4.0}]),
    st.lists(st.fixed_dictionaries({"CPU": st.integers(0, 4), "GPU": st.integers(0, 4)}), max_size=3),
)
def test_equal_shares_are_refused_exactly_when_no_placement_holds_them(
    count: int, share: dict[str, float], machines: list[dict[str, float]]
) -> None:
    assert (placement.lacking([share] * count, machines) == "") is fits_somehow([share] * count, machines)


@pytest.mark.parametrize(
    ("begun", "kind", "fix"),
    [(False, InputError, "add machines"), (True, InterruptedRun, "the same command")],
)
def test_a_refusal_says_what_is_wanted_and_what_is_there(
    begun: bool, kind: type[VZeroError], fix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a cluster that never had it, and of one that lost it."""
    monkeypatch.setattr(
        placement, "_machines", lambda: [{"CPU": 8, "GPU": 1}, {"CPU": 8, "GPU": 1}, {"CPU": 2}]
    )
    share = {"CPU": 2, "GPU": 1}
    placement.await_machines([[share], [share] * 2], 0, begun)
    wanted = r"wants 3 x 2 CPU \+ 1 GPU, each of one machine, .* has 2 x 8 CPU \+ 1 GPU, 1 x 2 CPU;"
    with pytest.raises(VZeroError, match=f"{wanted} .*{fix}") as found:
        placement.await_machines([[share], [share] * 3], 0, begun)
    assert type(found.value) is kind


def test_a_stage_is_not_the_first_once_its_command_has_finished_one(tmp_path: Path) -> None:
    """What was finished by another command says nothing of the cluster that this one is given."""
    expected = {"run-started": False, "stage-started": False, "stage-finished": True, "run-resumed": False}
    assert not ranks._begun(tmp_path)
    for event, begun in [*expected.items(), ("stage-finished", True), ("stage-started", True)]:
        ledger.append(tmp_path, {"event": event, "stage": "00-images"})
        assert ranks._begun(tmp_path) is begun, event


GPU = {"CPU": 2.0, "GPU": 1.0}
SERVED = load_preset("qwen2.5-vl-7b-2nodes")


@pytest.mark.parametrize(
    ("preset", "kind", "own", "servers"),
    [
        (two_machines("engine.threads=4", "launch.processes=2"), "train-questioner", [{"CPU": 2.0}] * 4, []),
        (two_machines("engine.threads=4"), "label", [], [{"CPU": 4.0}] * 2),
        (two_machines("engine.threads=4"), "evaluate", [], [{"CPU": 4.0}] * 2),
        (two_machines('engine.urls=["http://a:1"]'), "label", [{"CPU": 2.0}], []),
        (load_preset("smoke"), "label", [{"CPU": 2.0}], []),
        (load_preset("qwen2.5-vl-3b-1gpu"), "label", [{"CPU": 8.0, "GPU": 1.0}], []),
        (SERVED, "train-questioner", [GPU] * 8, [GPU] * 8),
        (SERVED, "train-solver", [GPU] * 8, []),
        (SERVED, "write-questions", [], [{"CPU": 1.0, "GPU": 1.0}] * 16),
        (SERVED, "images", [{"CPU": 8.0}], []),
    ],
)
def test_what_a_stage_asks_for(
    preset: Preset, kind: str, own: list[Mapping[str, float]], servers: list[Mapping[str, float]]
) -> None:
    demand = placement.demand_of(preset, stage_of(preset, kind))
    assert (list(demand.ranks), list(demand.replicas)) == (own, servers)
    bundles = [index for index, _ in demand.placed]
    assert bundles == list(range(len(own + servers))) if own else [0, *range(len(servers))]
    for index, share in demand.placed:
        assert all(demand.bundles[index][name] >= count for name, count in share.items())


@pytest.mark.parametrize(
    ("machines", "found"),
    [
        ([{"CPU": 4.0}, {"CPU": 5.0}, {"memory": 1.0}], [{"CPU": 2.0}] * 4),
        ([{"CPU": 1.0}, {"CPU": 3.0}], [{"CPU": 1.0}] * 4),
        ([{"CPU": 8.0, "GPU": 2.0}, {"CPU": 64.0}], [{"CPU": 1.0, "GPU": 1.0}] * 2),
    ],
)
def test_an_evaluation_has_servers_on_all_of_a_cluster(
    machines: list[dict[str, float]], found: list[dict[str, float]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(placement, "_machines", lambda: machines)
    assert placement.everywhere(threads=2) == found
    assert placement.lacking(found, machines) == ""
    monkeypatch.setattr(placement, "_machines", lambda: [{"memory": 1.0}])
    with pytest.raises(InputError, match="no CPU to run a server on"):
        placement.everywhere(threads=2)


def test_an_evaluation_on_a_cluster_names_no_servers_of_its_own() -> None:
    for urls, gpus in ((["http://a:1"], None), (None, "0")):
        named = engines.config("server", 8, urls, gpus, None)
        assert engines.cluster_of("", named) is None is engines.cluster_of(None, named)
        with pytest.raises(InputError, match="--cluster starts servers on all of it"):
            engines.cluster_of("auto", named)
    assert engines.cluster_of("auto", engines.config("server", 8, None, None, None)) == "auto"


def test_machines_that_could_not_reach_the_solver_are_refused_when_the_preset_is_read() -> None:
    """Servers that the training starts by itself listen on the first machine's loopback."""
    served = ["launch.nodes=2", "launch.strategy=ddp", "engine.name=server"]
    with pytest.raises(InputError, match=r"set launch\.solver_gpus or engine\.urls"):
        load_preset("smoke", served)
    two = [*served, "launch.gpus=1", "launch.solver_gpus=1", "iterations=2"]
    with pytest.raises(InputError, match=r"set questioner\.intuition"):
        load_preset("smoke", [*two, "questioner.intuition=base"])
    for changes in (two, [*served, 'engine.urls=["http://a:1"]'], [*served, "questioner.trained=false"]):
        load_preset("smoke", changes)
    load_preset("smoke", [*two, "iterations=1", "questioner.intuition=base"])


def test_every_kind_of_stage_that_asks_a_model_has_its_role() -> None:
    """A kind that is forgotten would ask alone, on a GPU that it did not ask for."""
    changes = ["solver.answerable=true", "evaluation.prefill_words=4", 'defects=["label_selection"]']
    for preset in (load_preset("smoke"), load_preset("pocket", changes)):
        for stage in plan(preset):
            asks = {"model", "solver", "questioner"} & stage.inputs.keys()
            role = placement.ASKED.get(stage.kind)
            assert role in asks if asks and stage.kind != "train-solver" else role is None, stage.kind


def test_what_tells_a_process_of_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VZERO_DATA", "/data")
    monkeypatch.setenv("SECRET_OF_MINE", "x")
    preset = two_machines("engine.threads=4")
    found = ranks._variables(preset, stage_of(preset, "train-questioner"), MACHINES, 1)
    assert found["VZERO_DATA"] == "/data" and "SECRET_OF_MINE" not in found
    assert (found["RANK"], found["WORLD_SIZE"], found["LOCAL_RANK"]) == ("1", "2", "0")
    assert (found["MASTER_ADDR"], found["MASTER_PORT"]) == ("10.0.0.1", "29500")
    alone = ranks._variables(preset, stage_of(preset, "label"), MACHINES[:1], 0)
    assert alone["VZERO_DATA"] == "/data" and not {"RANK", "WORLD_SIZE", "MASTER_ADDR"} & alone.keys()


@pytest.mark.parametrize(
    ("ends", "kind", "sentence"),
    [
        ({0: End(1, 1, CLOSED), 1: End(2, 2, "no such picture")}, InputError, "Rank 1 on two: no such"),
        ({0: End(1, 1, CLOSED), 1: End(137, 75, "ended by SIGKILL")}, InterruptedRun, "Rank 1 on two: ended"),
        ({0: End(1, 1, "KeyError: 'x'"), 1: End(1, 1, CLOSED)}, VZeroError, "Rank 0 on one: KeyError"),
        ({0: End(1, 1, CLOSED), 1: End(1, 1, CLOSED)}, InterruptedRun, "The processes lost each other"),
        ({1: End(75, 75, "no answer")}, InterruptedRun, "Rank 1 on two: no answer"),
    ],
)
def test_the_first_cause_of_a_failure_is_told(
    ends: dict[int, End], kind: type[VZeroError], sentence: str
) -> None:
    with pytest.raises(VZeroError) as found:
        ranks._judge(ends, MACHINES)
    assert type(found.value) is kind and str(found.value).startswith(sentence)


def test_machines_with_another_program_are_named() -> None:
    same = {"vzero-harness": "x", "torch": "2.13.0"}
    places = [Place("10.0.0.1", "one", 1, same), Place("10.0.0.2", "two", 2, {**same, "torch": "2.12.0"})]
    require_alike(places[:1] * 3)
    with pytest.raises(InputError, match="machines one and two differ in torch;"):
        require_alike(places)


def test_a_process_that_cannot_begin_says_why(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not a run directory"):
        Part().run(tmp_path, "00-images", 0, {})


@pytest.mark.parametrize(("driver", "kind"), [(True, InterruptedRun), (False, VZeroError)])
def test_a_driver_that_ray_has_ended_can_be_resumed(
    tmp_path: Path, driver: bool, kind: type[VZeroError]
) -> None:
    """Ray ends a process that lost its cluster in the middle of anything, with code 1 and words of its
    own."""
    (tmp_path / "logs").mkdir()
    log = tmp_path / "logs" / "a.log"
    log.write_text("Failed to connect to GCS within 60 seconds. The program will terminate.\n")
    popen = subprocess.Popen(["true"])
    popen.wait()
    process = StageProcess(popen, log, 0, driver)
    found = supervise.failure("00-images", 1, process)
    assert type(found) is kind
    log.write_text(log.read_text() + f"{supervise.PEAK}12.5\nerror: no such picture (log: b.log)\n")
    own = supervise.failure("00-images", 2, process)
    assert type(own) is InputError and str(own) == "no such picture (log: b.log)"
    assert supervise.peak_mib(process) == (12.5 if driver else 0.0), "a stage may print anything"


def test_what_a_stage_notes_is_shown_once_and_whole(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_text("note: of an attempt before\n")
    popen = subprocess.Popen(["true"])
    popen.wait()
    process = StageProcess(popen, log, len(log.read_text()))
    with log.open("a") as stream:
        for text, shown in (
            ("x\nnote: one\nno", ["one"]),
            ("te: two", []),
            ("\nnote: three\n", ["two", "three"]),
        ):
            stream.write(text)
            stream.flush()
            assert process.notes() == shown
    assert process.notes() == []


def test_a_run_of_before_still_reads(tmp_path: Path) -> None:
    stored = load_preset("smoke").model_dump(mode="json")
    stored["launch"] |= {"join_seconds": 60.0, "node_seconds": 120.0}
    del stored["launch"]["cluster"]
    assert Preset.model_validate(stored) == load_preset("smoke")


def test_one_machine_imports_no_ray(tmp_path: Path) -> None:
    """Where it is installed too: what a run of one machine starts with, and a stage."""
    program = (
        "import sys; import harness.cli, harness.commands.reproduce, harness.commands.running, "
        "harness.cluster.session, harness.runs.orchestrate, vzero.stages; sys.exit('ray' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=False).returncode == 0
    preset = load_preset("smoke")
    for stage in plan(preset):
        assert not [word for word in supervise.command_of(tmp_path, preset, stage) if "cluster" in word]
    moved = preset.model_copy(update={"launch": preset.launch.model_copy(update={"cluster": "auto"})})
    digests = [artefacts.digest([stage.config for stage in plan(one)]) for one in (preset, moved)]
    assert digests[0] == digests[1]
    for stage in plan(moved):
        assert "harness.cluster.ranks" in supervise.command_of(tmp_path, moved, stage)


@pytest.mark.parametrize(("mode", "notes"), [("token", 0), ("", 1)])
def test_who_joins_a_cluster_without_a_token_is_told_once(
    mode: str, notes: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ray = SimpleNamespace(init=lambda *_, **__: None, shutdown=lambda: None, exceptions=SimpleNamespace())
    monkeypatch.setitem(sys.modules, "ray", ray)
    monkeypatch.setenv(session.AUTH, mode)
    with socket.create_server(("127.0.0.1", 0)) as head, session.joined(f"127.0.0.1:{head.getsockname()[1]}"):
        pass
    assert capsys.readouterr().err.count("asks for no token") == notes
