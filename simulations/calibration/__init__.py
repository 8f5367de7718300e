"""The same swarm twice, real and simulated: what ``calibrate.py`` is made of."""
