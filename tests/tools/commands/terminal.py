"""A terminal for tests: runs a process with stderr on a pseudo-terminal, and shows what people would see at the end."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from dataclasses import dataclass

_TOKEN = re.compile(r"\x1b\[([?0-9;]*)([A-Za-z])|(.)", re.DOTALL)


@dataclass(frozen=True)
class Seen:
    """What a process wrote to a terminal: every byte as text, the lines that were left on the screen, its exit code."""

    raw: str
    screen: list[str]
    stdout: str
    code: int


def run_in_terminal(command: list[str], columns: int = 80, **environment: str) -> Seen:
    """Run a command with stderr on a terminal of 24 lines; `columns` may be 0, as where nobody has set a size."""
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 24 if columns else 0, columns, 0, 0))
    kept = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "COLUMNS", "LINES")}
    environment = {**kept, "TERM": "xterm-256color", **environment}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=follower, text=True, env=environment) as child:
        os.close(follower)
        raw = _read(leader)
        stdout = child.communicate(timeout=120)[0]
    os.close(leader)
    return Seen(raw, screen(raw), stdout, child.returncode)


def python(source: str) -> list[str]:
    """The command that runs `source`."""
    return [sys.executable, "-c", source]


def _read(leader: int) -> str:
    parts = []
    while True:
        try:
            part = os.read(leader, 1 << 16)
        except OSError:  # EIO: nobody has the terminal open any more
            break
        if not part:
            break
        parts.append(part)
    return b"".join(parts).decode()


def screen(raw: str) -> list[str]:
    """The lines that are left after all escapes were obeyed. Knows those for cursor up, erase line, and colours."""
    lines, row, column = [""], 0, 0
    for arguments, letter, char in _TOKEN.findall(raw):
        if letter == "A":
            row = max(row - int(arguments or 1), 0)
        elif letter == "K":
            assert arguments == "2", arguments
            lines[row] = ""
        elif char == "\r":
            column = 0
        elif char == "\n":
            row += 1
            lines += [""] * (row + 1 - len(lines))
        elif char:
            lines[row] = lines[row][:column].ljust(column) + char + lines[row][column + 1 :]
            column += 1
        else:
            assert letter in "mhl", (arguments, letter)
    return [line.rstrip() for line in lines]
