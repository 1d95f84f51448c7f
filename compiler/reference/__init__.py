"""Mochi 1 in plain torch: the definition of what every other part of the compiler must reproduce."""
