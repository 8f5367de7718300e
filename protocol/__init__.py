"""What nodes say and decide.

Pure: events and ``now`` go in, commands come out. Nothing in here opens a socket or a
file, reads a clock or draws a random number of its own; the drivers in ``daemon`` and
``simulations`` do that.
"""
