"""What `mochi-bench` measures, and against what."""
