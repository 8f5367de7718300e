"""The direct lane: TLS 1.3 over TCP between two daemons, blocks moved by blocking threads."""
