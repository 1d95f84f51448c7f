"""mochi-run as a module, which torchrun can start: torchrun --nproc-per-node 8 -m mochi_aot.run BUNDLE ..."""

from mochi_aot.tools.commands.run import main

if __name__ == "__main__":
    main(prog_name="mochi-run")
