"""What others use to move a file: one module each, run beside the lanes in the same round."""
