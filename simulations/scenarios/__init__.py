"""The simulator's scenarios."""
