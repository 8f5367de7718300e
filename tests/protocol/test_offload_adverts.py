"""What members tell of their models: as small as it is said to be, and believed within bounds."""

from __future__ import annotations

import math
from dataclasses import replace

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dreamer.protocol.errors import RemoteProtocolError
from dreamer.protocol.ids import ManifestId
from dreamer.protocol.offload_adverts import AdvertisedModel, Offering, pack, rounded, unpack
from dreamer.protocol.offload_limits import (
    OFFLOAD_ADVERT_MAX_BYTES,
    OFFLOAD_ADVERT_MAX_MODELS,
)

ONE = AdvertisedModel(ManifestId(b"m" * 32), True, 1.5, 2, 3, 8, 1200.0, 95.0)


def model(number: int, **fields) -> AdvertisedModel:
    return replace(ONE, manifest_id=ManifestId(number.to_bytes(32, "big")), **fields)


def test_what_is_told_comes_back() -> None:
    offering = Offering("cuda:0", (ONE, model(1, loaded=False)))
    assert unpack(pack(offering)) == offering
    assert unpack(pack(offering)).gpu
    assert offering.of(ONE.manifest_id) == ONE
    assert offering.of(ManifestId(b"x" * 32)) is None


def test_the_largest_fits_a_message_and_loaded_models_come_first() -> None:
    many = tuple(model(n, loaded=n % 3 == 0) for n in range(3 * OFFLOAD_ADVERT_MAX_MODELS))
    told = rounded(Offering("c" * 1000, many))
    assert len(told.models) == OFFLOAD_ADVERT_MAX_MODELS
    assert all(one.loaded for one in told.models)
    assert len(pack(told)) <= OFFLOAD_ADVERT_MAX_BYTES


def test_noise_is_no_change() -> None:
    first, second = (Offering("cpu", (model(1, decode_tokens_s=rate),)) for rate in (95.1, 95.4))
    assert rounded(first) == rounded(second)
    assert rounded(first) != rounded(Offering("cpu", (model(1, decode_tokens_s=60.0),)))


@pytest.mark.parametrize(
    "said",
    [
        [],
        ["cpu"],
        ["cpu", 5],
        [5, []],
        ["cpu", [[b"m" * 31, True, 0.0, 0, 0, 1, 0.0, 0.0]]],
        ["cpu", [["m" * 32, True, 0.0, 0, 0, 1, 0.0, 0.0]]],
        ["cpu", [[b"m" * 32, True, math.nan, 0, 0, 1, 0.0, 0.0]]],
        ["cpu", [[b"m" * 32, True, 0.0, 0, 0, 1, math.inf, 0.0]]],
        ["cpu", [[b"m" * 32, True, 0.0, "0", 0, 1, 0.0, 0.0]]],
        ["cpu", [[b"m" * 32, True]]],
        ["cpu", [None]],
        ["cpu", [[b"m" * 32, True, 0.0, 0, 0, 1, 0.0, 0.0]] * (OFFLOAD_ADVERT_MAX_MODELS + 1)],
        ["c" * 1000, []],
    ],
)
def test_what_makes_no_sense_is_the_peers_fault(said) -> None:
    with pytest.raises(RemoteProtocolError):
        unpack(msgpack.packb(said))


def test_boasts_are_cut_to_what_a_machine_can_do() -> None:
    said = ["cpu", [[b"m" * 32, True, -5.0, -3, 2**40, 0, 1e300, -1.0]]]
    (heard,) = unpack(msgpack.packb(said)).models
    assert heard == AdvertisedModel(ManifestId(b"m" * 32), True, 0.0, 0, 1_000_000, 1, 1e9, 0.0)


@given(st.binary(max_size=300))
def test_random_bytes_are_an_advert_or_the_peers_fault(data: bytes) -> None:
    try:
        unpack(data)
    except RemoteProtocolError:
        return


def test_an_advert_that_is_too_large_is_not_read() -> None:
    with pytest.raises(RemoteProtocolError, match="bytes"):
        unpack(b"\0" * (OFFLOAD_ADVERT_MAX_BYTES + 1))
