"""What a node can do for its user, a facet for each subject; ``ports.Node`` holds them together."""
