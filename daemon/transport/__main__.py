"""``python -m dreamer.daemon.transport FD``: started by the daemon, never by hand."""

import sys

from dreamer.daemon.transport.process import main

main(int(sys.argv[1]))
