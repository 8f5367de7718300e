"""Runs models on peers, and for peers, over the control channel of a link."""
