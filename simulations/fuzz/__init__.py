"""The simulator's fuzz."""
