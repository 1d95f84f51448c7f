"""What ttnn's functions compute, by definitions over torch tensors: to run a program without chips, or to check chips.

Needs torch and ttnn, and no compiler: a bundle is checked like this where its chips are.
"""
