"""The process of one step: NAME BUNDLE DEVICE PROGRESS NUMBERS."""

import json
import sys
from pathlib import Path

from mochi_aot.artifacts.errors import MochiError
from mochi_aot.artifacts.reader import Bundle
from mochi_aot.tools.bringup.progress import ProgressFile
from mochi_aot.tools.bringup.steps import STEPS, Run


def main(name: str, bundle: str, device: str, progress: str, numbers: str) -> None:
    """Run a step and write its numbers, or its problem. Any other fault ends the process with a traceback."""
    say = ProgressFile(Path(progress))
    say.say("opening the bundle")
    try:
        found = STEPS[name](Run(Bundle.open(Path(bundle)), device, say))
    except MochiError as error:
        found = {"problem": str(error)}
    Path(numbers).write_text(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
