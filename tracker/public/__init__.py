"""WebTorrent swarms for anyone: the websockets of stock clients, and who meets whom."""
