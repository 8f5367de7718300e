"""The demo: a real model pushed by one node, pulled and run by two others, on loopback."""
