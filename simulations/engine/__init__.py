"""The swarm simulator's engine: one heap of events, a network of shared pipes, nodes that think."""
