"""The thin runtime stays thin: what the host side and the command line import, seen in a fresh process."""

import subprocess
import sys

FORBIDDEN = ("torch", "transformers", "diffusers", "ttnn", "mochi_aot.compiler")
SCRIPT = """
import sys
import mochi_aot.runtime.checks, mochi_aot.runtime.generate, mochi_aot.runtime.record, mochi_aot.tools.commands.run
print(" ".join(sorted(sys.modules)))
"""


def test_no_model_code_and_no_backend_before_it_is_needed() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    assert not set(FORBIDDEN).intersection(done.stdout.split())
