"""The same protocol code on a virtual network and clock, and the benchmarks beside real parts."""
