"""A network that is hostile on purpose: hosts, NATs, shaped and lossy links from namespaces.

Needs root and a Linux kernel with network namespaces, nft NAT and TUN/TAP; ``tc netem`` is not
needed, since many kernels lack it: delay and loss come from a process of our own (``wire``).
"""
