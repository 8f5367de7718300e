"""Public models in BitTorrent swarms, by libtorrent in a process of its own.

libtorrent is a large C++ library that reads what strangers send: its memory, threads and crashes
are not the daemon's. It reads stored files where they are and writes into the same partial files
as the other lanes; what it wrote counts once its BLAKE3 is right.
"""
