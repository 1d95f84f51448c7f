"""From a program for one device to one SPMD program for a mesh: placements, collectives, plans and their cost."""
