"""Who takes part in the fan-out benchmark, each on the same star of shaped links."""
