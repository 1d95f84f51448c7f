"""What processes tell each other beside tensors: JSON lines over TCP between the leader and each follower.

A connection whose process has ended is closed by the system: so the other side learns of it at once, whatever it is
waiting for.
"""

import ipaddress
import json
import secrets
import socket
import threading
import time
from contextlib import suppress
from typing import Any

from torch._C._distributed_c10d import Store

from mochi_aot.runtime.errors import BackendError

Message = dict[str, Any]

_KEY = "leader"
_HELLO_SECONDS = 10.0  # within which whoever has connected says who it is
_HELLO_BYTES = 1000


class Link:
    """One connection. Any thread may send; one thread receives."""

    def __init__(self, connection: socket.socket) -> None:
        """Messages are short, and each is waited for."""
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)  # tells of a host that has gone
        self._connection, self._lines = connection, connection.makefile("rb")
        self._lock = threading.Lock()

    def send(self, message: Message) -> None:
        """Send a message, or nothing to a process that has ended: `receive` tells of that."""
        with self._lock, suppress(OSError):
            self._connection.sendall(json.dumps(message).encode() + b"\n")

    def receive(self, limit: int = -1) -> Message | None:
        """Return the next message; None once the other side has ended, and for one that is longer than `limit`."""
        try:
            line = self._lines.readline(limit)
            return json.loads(line) if line.endswith(b"\n") else None
        except (OSError, ValueError):
            return None

    def close(self) -> None:
        """End the connection: who waits in `receive`, on either side, gets None."""
        with suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)
        self._connection.close()


def invite(store: Store, address: str, size: int, seconds: float) -> dict[int, Link]:
    """Tell in the store where the leader is, and return a link to each of the ranks 1 to size - 1.

    `address` is under which they reach this host. Raise BackendError for ranks that do not come in time.
    """
    token, links, deadline = secrets.token_hex(16), dict[int, Link](), time.monotonic() + seconds
    with _server(address) as server:
        where = {"address": address, "port": server.getsockname()[1], "token": token}
        store.set(_KEY, json.dumps(where))
        while len(links) < size - 1:
            server.settimeout(max(deadline - time.monotonic(), 0.01))
            try:
                connection, _ = server.accept()
            except TimeoutError:
                missing = sorted(set(range(1, size)) - set(links))
                raise BackendError(f"ranks {missing} did not come within {seconds:.0f} s; is their host up?") from None
            greeted = _greeted(connection, token, size)
            if greeted is not None:
                links[greeted[0]] = greeted[1]
    return links


def answer(store: Store, rank: int, seconds: float) -> Link:
    """Return a link to the leader. Raise BackendError if it cannot be reached."""
    try:
        where = json.loads(store.get(_KEY))
        connection = socket.create_connection((where["address"], where["port"]), seconds)
    except (OSError, RuntimeError) as error:  # the latter is the store's
        raise BackendError(f"rank {rank} cannot reach rank 0: {str(error).partition(chr(10))[0]}") from error
    connection.settimeout(None)
    link = Link(connection)
    link.send({"rank": rank, "token": where["token"]})
    return link


def is_loopback(address: str) -> bool:
    """Return whether an address, or a name, is of this host alone."""
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"


def _server(address: str) -> socket.socket:
    """Listen on a free port: for this host alone, if the address is of it alone."""
    if is_loopback(address):
        return socket.create_server((address, 0))
    if socket.has_dualstack_ipv6():
        return socket.create_server(("", 0), family=socket.AF_INET6, dualstack_ipv6=True)
    return socket.create_server(("", 0))


def _greeted(connection: socket.socket, token: str, size: int) -> tuple[int, Link] | None:
    """Return who has connected, or None, the connection closed, for a stranger."""
    connection.settimeout(_HELLO_SECONDS)
    link = Link(connection)
    with suppress(TypeError, KeyError):  # of what is no hello
        hello: Any = link.receive(_HELLO_BYTES)
        if secrets.compare_digest(str(hello["token"]), token) and 0 < hello["rank"] < size:
            connection.settimeout(None)
            return int(hello["rank"]), link
    link.close()
    return None
