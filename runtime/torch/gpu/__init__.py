"""What is particular about a GPU: how weights come to it, how a program is recorded, which kernels it has."""
