"""Faults and crowds by command: what docs/security.md says was tried, thousands of times."""
