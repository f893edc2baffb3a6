"""A server of a model whose machine is cut off: no connection is closed, and no packet comes back.

The machine is a network namespace of Linux beside the client's own one, so that nothing outside changes. As a
program this file is the client, "serve" the server.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from vzero.runtime import http_client
from vzero.runtime.http_client import Endpoint, NoReply
from vzero.runtime.watchdog import watchdog_command

NEAR, FAR, PORT, HOUR = "10.7.0.1", "10.7.0.2", 8000, 3600.0
ADDRESS = "02:00:00:00:00:02"  # known for good: a router in between would not say that nobody is there


def test_a_server_behind_a_cut_network_is_given_up_long_before_a_slow_one() -> None:
    """That may take an hour to reply."""
    alone = ["unshare", "--net"]
    if shutil.which("ip") is None or subprocess.run([*alone, "true"], check=False).returncode:
        pytest.skip("no network of its own can be made here (iproute2; unshare --net)")
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    words = [*alone, sys.executable, __file__]
    done = subprocess.run(words, env=env, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["ReadError", "ConnectTimeout"]


def ip(words: str, *there: str) -> None:
    subprocess.run([*there, "ip", *words.split()], check=True)


@contextmanager
def machine() -> Iterator[list[str]]:
    """With how a command begins that is to run there."""
    held = subprocess.Popen(["unshare", "--net", "sh", "-c", "echo; cat"], stdin=subprocess.PIPE, stdout=-1)
    try:
        assert held.stdout is not None and held.stdout.readline() == b"\n"
        there = [str(shutil.which("nsenter")), "--net", "--target", str(held.pid)]
        ip("link set lo up")
        ip(f"link add near type veth peer name far address {ADDRESS} netns {held.pid}")
        ip(f"address add {NEAR}/24 dev near")
        ip("link set near up")
        ip(f"address add {FAR}/24 dev far", *there)
        ip("link set far up", *there)
        ip(f"neighbour replace {FAR} dev near lladdr {ADDRESS} nud permanent")
        yield there
    finally:
        held.kill()
        held.wait()


class CutOff(BaseHTTPRequestHandler):
    """Cuts its machine off when it is asked, and never answers."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        ip("link set far down")
        print("cut off", flush=True)
        threading.Event().wait()


def serve() -> None:
    server = ThreadingHTTPServer((FAR, PORT), CutOff)
    print("ready", flush=True)
    server.serve_forever()


def main() -> None:
    http_client.SILENT_SECONDS = 6
    with machine() as there:
        words = watchdog_command([*there, sys.executable, __file__, "serve"])
        with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, process_group=0) as server:
            assert server.stdout is not None and server.stdout.readline() == "ready\n"
            for _ in range(2):  # on a connection that is there, and for one
                with pytest.raises(NoReply) as found:
                    http_client.ask(Endpoint(f"http://{FAR}:{PORT}", "m"), "/", 1000, HOUR, {"n": 1})
                assert type(found.value) is NoReply, "the deadline has not come"
                print(found.value)
            assert server.stdout.readline() == "cut off\n"
            os.killpg(server.pid, signal.SIGKILL)


if __name__ == "__main__":
    serve() if sys.argv[1:] == ["serve"] else main()
