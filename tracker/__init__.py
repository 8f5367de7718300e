"""The rendezvous server: swarms for any WebTorrent client, rooms for a team's nodes."""
