"""What content is: paths, manifests, outboards, and where each block lies."""
