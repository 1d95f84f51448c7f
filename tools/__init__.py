"""The command lines, and the benchmarks behind `mochi-bench`."""
