"""Passes: each a function from a valid program to a valid program (or, for the split by rates, several)."""
