"""The command lines, one file each, and what they share."""

import os
import signal
import sys

TYPE_CHECKING = False  # see mochi_aot's own
if TYPE_CHECKING:
    from types import FrameType


def _end_at_once(number: int, frame: "FrameType | None") -> None:
    os._exit(128 + number)


def _starts_a_command() -> bool:
    """Whether this is imported by a console script, or by `python -m`, which names modules so until it runs one."""
    name = os.path.basename(sys.argv[0]) if sys.argv else ""
    return name == "-m" or name.startswith("mochi-")


# From the first import on, until a command runs: there is nothing to clean up yet. Otherwise Ctrl-C would be a
# traceback of whatever is being imported, and process 1, as in a container, would not hear the other signals at all.
if _starts_a_command():
    for _number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(_number) in (signal.SIG_DFL, signal.default_int_handler):
            signal.signal(_number, _end_at_once)
