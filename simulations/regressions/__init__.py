"""The simulator's regressions."""
