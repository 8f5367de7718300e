"""``python -m dreamer.daemon.torrent FD``: started by the daemon, never by hand."""

import sys

from dreamer.daemon.torrent.process import main

main(int(sys.argv[1]))
