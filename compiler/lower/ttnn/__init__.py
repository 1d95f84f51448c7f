"""The ttnn target: partitioned programs as lists of ttnn calls, with everything decided that can be."""
