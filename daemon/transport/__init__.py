"""WebRTC in a process of its own.

aiortc's SCTP is pure Python and keeps a core busy while bulk runs, so it may not share a loop
with REST and control handling. The daemon tells this process what to send from which file and
what to expect into which; payload never crosses between the two.
"""
