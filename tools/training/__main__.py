"""python -m mochi_aot.tools.training"""

from mochi_aot.tools.training.command import main

main()
