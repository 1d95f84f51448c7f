"""Whether a host can run a bundle, told before anything of it is loaded."""
