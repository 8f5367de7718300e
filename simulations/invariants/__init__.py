"""The simulator's invariants."""
