"""Joining a Ray cluster, and one of this machine alone that lives as long as a run."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from tempfile import TemporaryDirectory

from vzero.errors import InputError, InterruptedRun, VZeroError
from vzero.runtime import scratch
from vzero.runtime.watchdog import watchdog_command

LOCAL = "local"
ADDRESS = "VZERO_CLUSTER"  # of the cluster that the runner has started
CONNECT = 10.0  # seconds for a connection to a cluster
GRACE = 30.0  # seconds that a cluster of this machine has to end by itself
LOOPBACK = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"  # off: Ray listens on 127.0.0.1 alone, on every system
# Where another program listens, one try of Ray's to join takes about 40 s, and it makes 20; here two.
ATTEMPTS = ("RAY_gcs_server_port_wait_time_s", "2")
AUTH, TOKEN = "RAY_AUTH_MODE", "RAY_AUTH_TOKEN"


@contextmanager
def joined(said: str) -> Iterator[None]:
    """This process is a driver of the cluster that a preset names, or of the one its runner has started.

    Raises:
        InputError: there is none, or it refuses the token.
    """
    import ray

    os.environ.setdefault(*ATTEMPTS)
    address = os.environ.get(ADDRESS, said)
    try:
        _require_listener(address)
        ray.init(address, log_to_driver=False, logging_level="ERROR", namespace="vzero-harness")
    except (OSError, OverflowError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        reason = " ".join(str(error).split())[:300].rstrip(".")
        raise InputError(
            f"No Ray cluster can be joined at {address} ({reason}); start one (docs/launch.md), or leave "
            "--cluster out."
        ) from None
    if os.environ.get(AUTH) != "token":
        scratch.note(
            "The Ray cluster asks for no token: whoever reaches its ports can run programs as you; start it "
            "with RAY_AUTH_MODE=token (docs/launch.md), or keep its network to yourself."
        )
    try:
        yield
    finally:
        ray.shutdown()


def _require_listener(address: str) -> None:
    """Raises OSError where nobody listens at HOST:PORT: Ray itself would try for minutes."""
    host, _, port = address.rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), CONNECT).close()


def driven(work: Callable[[], None]) -> int:
    """Do the work of a driver's process; its exit code, a failure as the sentence that the runner looks for
    in its log."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        work()
    except VZeroError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except Exception as error:
        traceback.print_exc()
        print(f"error: {type(error).__name__}: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    return 0


@contextmanager
def local(said: str | None) -> Iterator[None]:
    """With "local" a cluster of this machine inside the body, which ends with it and with this process.

    Raises:
        InterruptedRun: it does not start.
    """
    if said != LOCAL:
        yield
        return
    secret = {AUTH: "token", TOKEN: secrets.token_hex(32), "RAY_USAGE_STATS_ENABLED": "0", LOOPBACK: "0"}
    secret |= {"RAY_prestart_worker_first_driver": "0"}  # one for each core, and none would be used
    command = watchdog_command([sys.executable, "-P", "-m", __name__])
    popen = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **secret},
        process_group=0,
    )
    try:
        assert popen.stdout is not None
        address = popen.stdout.readline().strip()
        if not address:
            raise InterruptedRun("A Ray cluster of this machine did not start; see above, then try again.")
        os.environ.update(secret, **{ADDRESS: address})
        yield
    finally:
        for name in (*secret, ADDRESS):
            os.environ.pop(name, None)
        assert popen.stdin is not None
        popen.stdin.close()  # it ends by that; of signals Ray would say much
        try:
            popen.wait(GRACE)
        except subprocess.TimeoutExpired:
            os.killpg(popen.pid, signal.SIGKILL)
            popen.wait()


def main() -> None:
    """Hold a cluster of this machine on loopback, without a dashboard; say its address."""
    import ray

    with TemporaryDirectory(prefix="vzero-ray-") as scratch_folder:
        try:
            _start(scratch_folder)
            print(ray.get_runtime_context().gcs_address, flush=True)
            sys.stdin.read()  # until the run is over
        finally:
            ray.shutdown()


def _start(folder: str) -> None:
    """Start it. Ray gives a machine 30 s for that, which a busy one can miss."""
    import ray

    for attempts_left in (2, 1, 0):
        try:
            ray.init(
                address="local",
                include_dashboard=False,
                log_to_driver=False,
                logging_level="ERROR",
                _temp_dir=folder,
            )
            return
        except Exception:
            ray.shutdown()
            if not attempts_left:
                raise


if __name__ == "__main__":
    main()
