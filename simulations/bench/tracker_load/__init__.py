"""The parts of the tracker's bench: clients that announce, trackers to serve them, measures."""
