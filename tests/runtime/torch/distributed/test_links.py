"""How ranks find rank 0, and what else may come to its port."""

import json
import socket
import threading

import pytest
import torch.distributed as dist

from mochi_aot.runtime.errors import BackendError
from mochi_aot.runtime.torch.distributed.links import Link, answer, invite, is_loopback


def where_of(store: dist.Store) -> tuple[str, int]:
    where = json.loads(store.get("leader"))
    return where["address"], where["port"]


@pytest.mark.parametrize(
    "said", [b"GET / HTTP/1.1\r\n", b"[]\n", b'{"rank": 1}\n', b'{"rank": 1, "token": "guessed"}\n', b"", b"x" * 5000]
)
def test_strangers_are_sent_away(said: bytes) -> None:
    store, links = dist.HashStore(), dict[int, Link]()
    leader = threading.Thread(target=lambda: links.update(invite(store, "127.0.0.1", 2, 60)))
    leader.start()
    with socket.create_connection(where_of(store)) as stranger:
        stranger.sendall(said)
        stranger.shutdown(socket.SHUT_WR)
        assert stranger.recv(100) == b""
    follower = answer(store, 1, 10)
    follower.send({"ready": 1})  # at once behind the greeting
    leader.join()
    assert links[1].receive() == {"ready": 1}
    links[1].send({"do": "close"})
    assert follower.receive() == {"do": "close"}
    links[1].close()
    assert follower.receive() is None


def test_a_rank_past_the_last_is_a_stranger() -> None:
    store = dist.HashStore()
    follower = threading.Thread(target=lambda: seen.append(answer(store, 2, 10).receive()))
    seen: list[object] = []
    follower.start()
    with pytest.raises(BackendError, match=r"ranks \[1\] did not come"):
        invite(store, "127.0.0.1", 2, 0.5)
    follower.join()
    assert seen == [None]


def test_ranks_that_do_not_come() -> None:
    with pytest.raises(BackendError, match=r"ranks \[1, 2\] did not come within 0 s; is their host up"):
        invite(dist.HashStore(), "127.0.0.1", 3, 0.05)


def test_a_leader_that_is_gone() -> None:
    store = dist.HashStore()
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    store.set("leader", json.dumps({"address": "127.0.0.1", "port": port, "token": ""}))
    with pytest.raises(BackendError, match=r"rank 1 cannot reach rank 0: .*refused"):
        answer(store, 1, 10)


@pytest.mark.parametrize(
    ("address", "alone"),
    [
        ("127.0.0.1", True),
        ("127.3.2.1", True),
        ("::1", True),
        ("localhost", True),
        ("10.0.0.1", False),
        ("host", False),
    ],
)
def test_what_is_of_this_host_alone(address: str, alone: bool) -> None:
    assert is_loopback(address) is alone
