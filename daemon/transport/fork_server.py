"""The process that transport processes are forked from: everything imported, nothing running.

A transport process of its own takes 60 MiB, nearly all of it aiortc and what that imports. Forked
from one that has it loaded, each shares those pages and adds some 20 MiB. The daemon sends one
byte and the socket that the new process is to serve, and gets back its process id.
"""

from __future__ import annotations

import gc
import logging
import os
import signal
import socket

from dreamer.daemon.transport import association, process
from dreamer.daemon.transport.vocabulary import PROCESS_ID
from dreamer.protocol.limits import TRANSPORT_NICE


def main(fd: int) -> None:
    """Fork until the daemon's end closes; it ends with the daemon, not with its signals."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s transport %(message)s")
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    # The kernel buries the children: the daemon learns of their end by their sockets.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    os.nice(TRANSPORT_NICE)
    association.install()
    # What is loaded now is never collected, so that the collector does not copy shared pages.
    gc.collect()
    gc.freeze()
    with socket.socket(fileno=fd) as orders:
        while True:
            order, ends, _, _ = socket.recv_fds(orders, 1, 1)
            if not order:
                return
            for end in ends:
                orders.sendall(PROCESS_ID.pack(_fork(orders, end)))


def _fork(orders: socket.socket, end: int) -> int:
    """Return the id of a new process that serves ``end``, which is closed here."""
    child = os.fork()
    if child:
        os.close(end)
        return child
    status = 1
    try:
        # Else it would keep the daemon from seeing the end of this one, and of others.
        orders.close()
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        process.run(end)
        status = 0
    except BaseException:
        logging.getLogger(__name__).exception("a transport process failed")
    finally:
        # Nothing that the parent would do at its own end is to be done here.
        os._exit(status)
