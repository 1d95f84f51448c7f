"""The command lines, one file each, and what they share."""
