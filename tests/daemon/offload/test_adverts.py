"""What members tell each other of their models: when it changes, to those who may ask, no more."""

from __future__ import annotations

import pytest

from dreamer.daemon.links.link import Link
from dreamer.daemon.offload.adverts import Adverts
from dreamer.daemon.transport.vocabulary import SendControl
from dreamer.protocol.errors import RemoteProtocolError
from dreamer.protocol.ids import ManifestId, NodeId, RoomId
from dreamer.protocol.link.messages import Ping, decode
from dreamer.protocol.link.offload_messages import OFFLOAD, OFFLOAD_VERSION, Advert
from dreamer.protocol.offload_adverts import AdvertisedModel, Offering, pack, unpack
from dreamer.protocol.offload_limits import OFFLOAD_ADVERTS_MAX_PER_MINUTE
from dreamer.protocol.swarm.vocabulary import Lane

MODEL = ManifestId(b"m" * 32)
LOADED = Offering("cpu", (AdvertisedModel(MODEL, True, decode_tokens_s=50.0),))
UNLOADED = Offering("cpu", (AdvertisedModel(MODEL),))


class Told:
    """A node's adverts, and what they put on its one link."""

    def __init__(self, offering=LOADED, knows=True) -> None:
        self.offering = offering
        self.may_ask = True
        self.now = 100.0
        self.sent = []
        said = {OFFLOAD: OFFLOAD_VERSION} if knows else {}
        room, peer = RoomId(b"r" * 32), NodeId(b"p" * 32)
        self.link = Link(1, room, peer, Lane.WEBRTC, said, self._pass_on, 0.0)
        self.adverts = Adverts(
            lambda: self.offering, lambda link: self.may_ask, lambda: [self.link], lambda: self.now
        )

    def _pass_on(self, command):
        assert isinstance(command, SendControl)
        self.sent.append(decode(command.data))

    @property
    def heard(self) -> list[Offering]:
        return [unpack(one.news) for one in self.sent if isinstance(one, Advert)]


def test_a_new_link_is_told_at_once_and_then_only_of_changes() -> None:
    told = Told()
    told.adverts.link_up(told.link)
    told.adverts.tell()
    told.offering = UNLOADED
    told.adverts.tell()
    told.adverts.tell()
    assert told.heard == [LOADED, UNLOADED]


def test_whoever_may_not_ask_learns_nothing() -> None:
    told = Told()
    told.may_ask = False
    told.adverts.link_up(told.link)
    told.adverts.tell()
    assert told.sent == []


def test_whoever_may_ask_no_more_is_told_that_there_is_nothing() -> None:
    told = Told()
    told.adverts.tell()
    told.may_ask = False
    told.adverts.tell()
    assert told.heard == [LOADED, Offering()]


@pytest.mark.parametrize("options", [{"offering": None}, {"knows": False}])
def test_nothing_is_told_by_who_serves_nobody_or_to_who_would_not_understand(options) -> None:
    told = Told(**options)
    told.adverts.link_up(told.link)
    told.adverts.tell()
    assert told.sent == []


def test_what_a_peer_said_last_counts_until_its_link_is_down() -> None:
    told = Told()
    for offering in (UNLOADED, LOADED):
        told.adverts.message(told.link, Advert(pack(offering)))
    assert told.adverts.of(told.link, MODEL) == (LOADED, LOADED.models[0])
    assert told.adverts.of(told.link, ManifestId(b"x" * 32)) is None
    told.adverts.link_down(told.link, "closed")
    assert told.adverts.heard(told.link) is None


def test_the_round_trip_to_who_serves_is_measured_now_and_then() -> None:
    told = Told()
    for later_s in (0.0, 1.0, 1.0, 20.0):
        told.now += later_s
        told.adverts.message(told.link, Advert(pack(LOADED)))
    assert sum(isinstance(one, Ping) for one in told.sent) == 2


def test_a_peer_that_talks_without_end_loses_its_link() -> None:
    told = Told()
    for _ in range(OFFLOAD_ADVERTS_MAX_PER_MINUTE):
        told.now += 0.1
        told.adverts.message(told.link, Advert(pack(LOADED)))
    with pytest.raises(RemoteProtocolError, match="adverts in a minute"):
        told.adverts.message(told.link, Advert(pack(LOADED)))


def test_one_that_tells_now_and_then_for_hours_keeps_its_link() -> None:
    told = Told()
    for _ in range(3 * OFFLOAD_ADVERTS_MAX_PER_MINUTE):
        told.now += 1.0
        told.adverts.message(told.link, Advert(pack(LOADED)))
    assert told.adverts.heard(told.link) == LOADED
