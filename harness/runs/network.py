"""Where nodes of one run meet: the address and port of node 0, and the interface by which a node reaches it.

`MASTER_ADDR` and `MASTER_PORT`, which launchers of torch programs know, say both where they are set for node
0.
"""

from __future__ import annotations

import fcntl
import os
import socket
import struct
import sys

from vzero.errors import InputError

SIOCGIFADDR = 0x8915  # Linux: the IPv4 address of an interface


def own_address() -> str:
    """By which other nodes reach this one.

    Raises:
        InputError: it cannot be found, since this machine's name leads to loopback or nowhere.
    """
    if said := os.environ.get("MASTER_ADDR"):
        return said
    try:
        found = [
            str(place[0]) for *_, place in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)
        ]
    except OSError:
        found = []
    address = next((one for one in found if not one.startswith("127.")), None)
    if address is None:
        raise InputError(
            "Cannot tell by which address other nodes reach this one (its name, "
            f"{socket.gethostname()}, leads to none but loopback); set MASTER_ADDR=HOST for node 0."
        )
    return address


def own_port() -> int:
    """A port to meet at: the one in `MASTER_PORT`, or one that was free a moment ago.

    Raises:
        InputError: `MASTER_PORT` is no port.
    """
    said = os.environ.get("MASTER_PORT")
    if said is None:
        with socket.socket() as probe:
            probe.bind(("", 0))
            return int(probe.getsockname()[1])
    if not said.isdecimal() or not 0 < int(said) < 65536:
        raise InputError(f"MASTER_PORT={said} is not a port; leave it out, and a free one is taken.")
    return int(said)


def interface_to(address: str) -> str | None:
    """The network interface by which `address` is reached from here; None where it is not known."""
    if sys.platform != "linux":
        return None
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect((address, 9))  # of a datagram socket: sends nothing
            own = probe.getsockname()[0]
            if own.startswith("127.") and not address.startswith("127."):
                return None  # node 0 knows its own name as loopback (Debian's /etc/hosts); the others do not
            return next((name for _, name in socket.if_nameindex() if _address_of(probe, name) == own), None)
    except OSError:
        return None


def _address_of(probe: socket.socket, interface: str) -> str | None:
    try:
        answer = fcntl.ioctl(probe.fileno(), SIOCGIFADDR, struct.pack("256s", interface.encode()[:15]))
    except OSError:
        return None
    return socket.inet_ntoa(answer[20:24])
