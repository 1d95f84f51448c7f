"""The first meeting of a bundle and a machine: steps that each run in a process of their own, watched by another."""
