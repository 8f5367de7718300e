"""The sections of a node's settings, by what they are about."""
