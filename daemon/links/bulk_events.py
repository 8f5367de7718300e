"""What the transport process reports of a link's own bulk channel, told to the listeners."""

from __future__ import annotations

from dreamer.daemon.links.link import Link, LinkListener
from dreamer.daemon.transport.vocabulary import (
    BlockDone,
    FromTransport,
    ServeDone,
    ServeFailed,
    Traffic,
)


def tell(listener: LinkListener, link: Link, event: FromTransport, now: float) -> None:
    """Pass an event about blocks on to the room's listeners."""
    match event:
        case BlockDone(_, request, block, verdict):
            listener.block_done(link, request, block, verdict)
        case Traffic(_, down, up):
            link.bytes_down += down
            link.bytes_up += up
            if down:
                link.heard_at = now
                listener.bytes_arrived(link, down)
        case ServeFailed(_, request):
            listener.serve_ended(link, request, event)
        case ServeDone(_, request):
            listener.serve_ended(link, request, None)
