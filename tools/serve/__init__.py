"""`mochi-serve`: bundles kept warm behind HTTP, with a queue on disk. It calls what `mochi_aot.load` gives, no more."""
