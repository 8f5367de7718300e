"""The simulator's capacity."""
