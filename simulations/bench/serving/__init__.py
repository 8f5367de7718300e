"""What the benchmark of inference is made of: clients, models, rounds."""
