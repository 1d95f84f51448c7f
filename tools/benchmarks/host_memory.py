"""Memory that a virtual machine's host has to find first.

A machine that gives freed memory back to its host (free page reporting) waits for the host at the first touch of each
page: here 0.4 GB/s, less than its disk gives. Where memory is the machine's own nobody waits.
"""

import time

import numpy as np

from mochi_aot.tools.benchmarks.raw_reads import huge_pages

_PAGE_BYTES = 4096


def touch_memory(nbytes: int) -> float:
    """Write to each page of `nbytes` of fresh memory, and give it back to the kernel. Return bytes a second.

    For a second or two the next process that wants memory finds pages that the host has already provided.
    """
    begun = time.perf_counter()
    view = huge_pages(nbytes)
    np.frombuffer(view, np.uint8)[::_PAGE_BYTES] = 1
    return nbytes / (time.perf_counter() - begun)
