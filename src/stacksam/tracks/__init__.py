"""Lineages: which object divided into which, where it appeared and vanished, and what should be reviewed."""
