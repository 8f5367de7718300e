"""One node: the I/O around the protocol, the store, the lanes, inference, REST and the CLI."""
