"""Attacks in pixel space: PGD, Auto-PGD, FAB, Square, their suites, and the folded model they run on."""
