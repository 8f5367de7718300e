"""The simulator's whatif."""
