"""``python -m dreamer.daemon.transport FD``: started by the daemon, never by hand."""

import sys

from dreamer.daemon.transport.fork_server import main

main(int(sys.argv[1]))
