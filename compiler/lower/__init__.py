"""From partitioned programs to what a target executes: one module a target, and the weights they share."""
