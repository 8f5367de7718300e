"""The simulator's costs."""
