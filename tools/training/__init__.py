"""Trains a small Mochi on clips that code draws: `mochi-train`."""
