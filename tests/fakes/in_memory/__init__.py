"""A node kept in memory, and its facets, for the tests of whatever stands upon a node."""
