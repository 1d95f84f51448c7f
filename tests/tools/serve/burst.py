"""A crowd of clients of every bad kind, and a probe that goes on meanwhile: `python -m tests.tools.serve.burst BUNDLE`.

At once: requests for videos, more than the queue takes; clients that read their answers slowly, or never; bodies that
never end; connections that are cut in the middle. Meanwhile /health is asked for on a connection of its own each time,
and the server's memory is looked at. In the end every job that was accepted has a video.
"""

import argparse
import asyncio
import json
import os
import random
import tempfile
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.tools.serve.servers import SIZE, Server, served

_PAUSE = 0.05  # seconds between two probes
_ANSWER = 120.0  # seconds that a client waits for its answer


@dataclass
class Crowd:
    """What the clients saw: statuses of answers, ids of accepted jobs, seconds of each probe."""

    host: str
    port: int
    body: bytes
    statuses: Counter[str] = field(default_factory=Counter)
    accepted: list[str] = field(default_factory=list)
    probes: list[float] = field(default_factory=list)
    busy: list[float] = field(default_factory=list)  # seconds that the server's event loop computed meanwhile
    before: int = 0  # bytes of memory that the server had resident, and the most while the crowd was there
    peak: int = 0

    async def run(self, requests: int, slow: int, endless: int, cut: int) -> None:
        """Send all at once, and wait until each client is done but those that never end."""
        chance = random.Random(0)
        endless_ones = [asyncio.create_task(self._endless()) for _ in range(endless)]
        others = [self._asks() for _ in range(requests)]
        others += [self._slow() for _ in range(slow)] + [self._cut(chance.randint(1, 150)) for _ in range(cut)]
        chance.shuffle(others)
        await asyncio.gather(*others)
        for task in endless_ones:
            task.cancel()
        await asyncio.gather(*endless_ones, return_exceptions=True)

    async def probe(self, process: int) -> None:
        """Ask for /health and look at the memory until cancelled."""
        while True:
            begun, busy = time.monotonic(), loop_seconds(process)
            status, _ = await self._answer(*await self._sent(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"))
            self.probes.append(time.monotonic() - begun)
            self.busy.append(loop_seconds(process) - busy)
            assert status == 200, status
            self.peak = max(self.peak, resident(process))
            await asyncio.sleep(_PAUSE)

    async def _asks(self) -> None:
        status, body = await self._answer(*await self._sent(self._request()))
        self.statuses[str(status)] += 1
        if status == 200:
            self.accepted.append(json.loads(body)["id"])

    async def _slow(self) -> None:
        """Ask for a list, and read it a byte at a time for a while."""
        reader, writer = await self._sent(b"GET /v1/videos?limit=100 HTTP/1.1\r\nHost: x\r\n\r\n")
        with suppress(OSError):
            for _ in range(50):
                await reader.read(1)
                await asyncio.sleep(0.05)
        writer.close()
        self.statuses["slow"] += 1

    async def _endless(self) -> None:
        """Send a body of the declared length, a byte a second."""
        head = (
            b"POST /v1/videos HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 200000\r\n\r\n"
        )
        _, writer = await self._sent(head)
        with suppress(OSError):
            while True:
                writer.write(b"[")
                await writer.drain()
                await asyncio.sleep(1)

    async def _cut(self, length: int) -> None:
        _, writer = await self._sent(self._request()[:length])
        writer.transport.abort()
        self.statuses["cut"] += 1

    def _request(self) -> bytes:
        head = (
            f"POST /v1/videos HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(self.body)}"
        )
        return f"{head}\r\n\r\n".encode() + self.body

    async def _sent(self, data: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection(self.host, self.port)
        writer.write(data)
        return reader, writer

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> tuple[int, bytes]:
        async with asyncio.timeout(_ANSWER):
            head = await reader.readuntil(b"\r\n\r\n")
            fields = dict(line.split(b": ", 1) for line in head.lower().split(b"\r\n")[1:] if b": " in line)
            body = await reader.readexactly(int(fields[b"content-length"]))
        writer.close()
        return int(head.split()[1]), body


def _head(length: int) -> bytes:
    """Return the head of a request for a video whose body has this length."""
    fields = f"Host: x\r\nContent-Type: application/json\r\nContent-Length: {length}"
    return f"POST /v1/videos HTTP/1.1\r\n{fields}\r\n\r\n".encode()


def resident(process: int) -> int:
    """Return the bytes of a process's memory."""
    return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * 4096


def loop_seconds(process: int) -> float:
    """Return the seconds that a process's first thread has computed: of other processes' work nothing is in it."""
    fields = Path(f"/proc/{process}/task/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def _crowd(crowd: Crowd, process: int, numbers: dict[str, int]) -> None:
    probing = asyncio.create_task(crowd.probe(process))
    await crowd.run(**numbers)
    await asyncio.sleep(2 * _PAUSE)
    assert not probing.done(), probing
    probing.cancel()


def burst(server: Server, fields: dict[str, Any], **numbers: int) -> Crowd:
    """Return what the clients saw, once each job that was accepted has a video. Raise AssertionError if one has not."""
    host, port = server.url.removeprefix("http://").split(":")
    body = json.dumps({"prompt": "a red fox", "num_inference_steps": 2, **fields}).encode()
    crowd = Crowd(host, int(port), body, before=resident(server.process.pid))
    asyncio.run(_crowd(crowd, server.process.pid, numbers))
    for name in crowd.accepted:
        assert server.wait(name, "completed", "failed")["status"] == "completed"
    return crowd


def report(crowd: Crowd) -> dict[str, Any]:
    """Return the numbers of a crowd."""
    probes = sorted(crowd.probes)
    return {
        "statuses": dict(crowd.statuses),
        "probes": len(probes),
        "health: median and slowest, s": (round(probes[len(probes) // 2], 3), round(probes[-1], 3)),
        "of which the event loop computed, s": round(max(crowd.busy), 2),
        "memory before and at its peak, MB": [round(one / 1e6) for one in (crowd.before, crowd.peak)],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path, nargs="?", help="Default: the toy bundle of the tests.")
    for name, number in (("requests", 1000), ("slow", 50), ("endless", 50), ("cut", 200)):
        parser.add_argument(f"--{name}", type=int, default=number)
    options = vars(parser.parse_args())
    with tempfile.TemporaryDirectory() as text:
        bundle, folder, fields = options.pop("bundle"), Path(text), {}
        if bundle is None:
            from tests.runtime import toy_bundle

            bundle, fields = folder / "toy.bundle", SIZE
            toy_bundle.write_bundle(bundle)
        with served(bundle, folder / "state", "--max-queue", "50") as server:
            print(json.dumps(report(burst(server, fields, **options)), indent=1))
        assert "Traceback" not in (folder / "state.log").read_text()


if __name__ == "__main__":
    main()
