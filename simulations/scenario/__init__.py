"""What is simulated, as a person writes it: a TOML file, read into values and checked."""
