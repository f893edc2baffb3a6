"""A Ray cluster of several logical machines on this one, with a token: what the tests of harness/cluster run
on.

It is held by a process of its own, since Ray reads its settings once, when it is first imported:
`python ray_cluster.py MACHINES`. That process says the cluster's address, and does what lines on its input
tell it: "kill 0", of a machine's raylet, which is replaced; "leave 0", the same, but nothing replaces it
until "add 0"; "kill head"; "cut 0", a machine's raylet answers nobody until "join 0": by then it counts as
lost, and has ended and is replaced when that is done.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
AUTH = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0" * 64, "RAY_USAGE_STATS_ENABLED": "0"}
# How soon a lost head and a lost machine are noticed; Ray's own times are up to a minute. A raylet's agents
# may take long to start on a busy machine.
QUICK = {"RAY_gcs_rpc_server_reconnect_timeout_s": "5", "RAY_health_check_period_ms": "1000"}
QUICK |= {"RAY_agent_register_timeout_ms": "300000"}
# No worker that nobody asked for, and no lower priority for processes than for whoever waits for them.
QUICK |= {"RAY_prestart_worker_first_driver": "0", "RAY_worker_niceness": "0"}
SIGNALS = {"kill": signal.SIGKILL, "leave": signal.SIGKILL, "cut": signal.SIGSTOP, "join": signal.SIGCONT}
SMALL: Any = {"include_dashboard": False, "object_store_memory": 80_000_000}


class Machines:
    """A head without CPUs, and machines of one CPU each."""

    def __init__(self, holder: subprocess.Popen[str]) -> None:
        self._holder = holder
        self.address = self._said()
        assert self.address, "the cluster did not start; see above"

    def tell(self, what: str) -> None:
        """See above; returns when it is done."""
        assert self._holder.stdin is not None
        self._holder.stdin.write(f"{what}\n")
        self._holder.stdin.flush()
        assert self._said() == what

    def _said(self) -> str:
        assert self._holder.stdout is not None
        return self._holder.stdout.readline().strip()


@contextmanager
def machines(count: int) -> Iterator[Machines]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**AUTH, **QUICK}.items():
            patch.setenv(name, value)
        holder = subprocess.Popen(
            [sys.executable, __file__, str(count)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        try:
            yield Machines(holder)
        finally:
            holder.communicate()  # it ends at the end of its input


def patient(get_node: Callable[..., Any]) -> Callable[..., Any]:
    """Ray gives a machine 30 s to start, which a busy one misses: ask for it longer."""

    def get(*words: Any) -> Any:
        end = time.monotonic() + 300
        while True:
            try:
                return get_node(*words)
            except RuntimeError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.5)

    return get


def sooner(start_raylet: Callable[..., Any]) -> Callable[..., Any]:
    """A raylet waits 15 s for the ports of its agents and then dies, which a busy machine misses. All but one
    agent's are known, as none, without `ray[default]`: say so before it starts, and choose the one's."""
    from ray import _raylet as ray

    absent = (ray.METRICS_AGENT_PORT_NAME, ray.METRICS_EXPORT_PORT_NAME, ray.DASHBOARD_AGENT_LISTEN_PORT_NAME)

    def start(node: Any, *words: Any, **named: Any) -> None:
        for name in absent:
            ray.persist_port(node._session_dir, node._node_id, name, -1)
        with socket.socket() as probe:
            probe.bind(("", 0))
            node._ray_params.runtime_env_agent_port = int(probe.getsockname()[1])
        start_raylet(node, *words, **named)

    return start


def hold(count: int) -> None:
    from ray._private import services
    from ray._private.node import Node
    from ray.cluster_utils import Cluster

    services.get_node, Node.start_raylet = patient(services.get_node), sooner(Node.start_raylet)
    said = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # Ray and its processes print elsewhere
    cluster = Cluster()
    head = cluster.add_node(num_cpus=0, no_monitor=True, include_log_monitor=False, **SMALL)
    nodes = [cluster.add_node(num_cpus=1, **SMALL) for _ in range(count)]
    print(cluster.address, file=said)
    for line in sys.stdin:
        what, where = line.split()
        node, kind = (head, "gcs_server") if where == "head" else (nodes[int(where)], "raylet")
        if what != "add":
            process = node.all_processes[kind][0].process
            process.send_signal(SIGNALS[what])
            if what != "cut":
                process.wait()
        while what == "leave" and node.node_id in cluster.global_state._live_node_ids():
            time.sleep(0.1)
        if what not in ("cut", "leave") and where != "head":
            nodes[int(where)] = cluster.add_node(num_cpus=1, **SMALL)
        print(line.strip(), file=said)
    cluster.shutdown()


if __name__ == "__main__":
    hold(int(sys.argv[1]))
