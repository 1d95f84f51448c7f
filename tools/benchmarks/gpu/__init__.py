"""`mochi-bench gpu`: the real shapes on one GPU, beside diffusers and beside what the card and the host can do."""
