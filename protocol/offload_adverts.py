"""What a member says of the models that it runs for others: loaded ones, queues, measured rates.

Sent over the control channel when something has changed, at most once a second, rounded so that
noise is no change; whoever hears it keeps only the last. It is the word of whoever sent it: figures
are clamped to what makes sense, and a member that lies about its speed is found out by being slow.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import msgpack

from dreamer.protocol.errors import RemoteProtocolError
from dreamer.protocol.ids import DIGEST_BYTES, ManifestId
from dreamer.protocol.offload_limits import (
    OFFLOAD_ADVERT_MAX_BYTES,
    OFFLOAD_ADVERT_MAX_MODELS,
    OFFLOAD_DEVICE_MAX_CHARS,
)

_MODEL_FIELDS = 8
_COUNT_MAX = 1_000_000
_RATE_MAX = 1e9


@dataclass(frozen=True)
class AdvertisedModel:
    """A model that can be asked for. Rates are tokens a second of one request, 0: not measured.

    ``load_s`` is how long loading took, 0 where that was never measured.
    """

    manifest_id: ManifestId
    loaded: bool = False
    load_s: float = 0.0
    running: int = 0
    queued: int = 0
    slots: int = 1
    prefill_tokens_s: float = 0.0
    decode_tokens_s: float = 0.0


@dataclass(frozen=True)
class Offering:
    """All that a member runs for this one; ``device`` is ``cpu`` or ``cuda:N``."""

    device: str = "cpu"
    models: tuple[AdvertisedModel, ...] = ()

    @property
    def gpu(self) -> bool:
        """Whether it runs them on a GPU."""
        return self.device.startswith("cuda")

    def of(self, manifest_id: ManifestId) -> AdvertisedModel | None:
        """Return what is offered of a model."""
        return next((one for one in self.models if one.manifest_id == manifest_id), None)


def rounded(offering: Offering) -> Offering:
    """Return an offering as it is told: loaded models first, rates to two digits."""
    models = sorted(offering.models, key=lambda one: (not one.loaded, one.manifest_id))
    told = (
        replace(
            one,
            load_s=_two_digits(one.load_s),
            prefill_tokens_s=_two_digits(one.prefill_tokens_s),
            decode_tokens_s=_two_digits(one.decode_tokens_s),
        )
        for one in models[:OFFLOAD_ADVERT_MAX_MODELS]
    )
    return Offering(offering.device[:OFFLOAD_DEVICE_MAX_CHARS], tuple(told))


def pack(offering: Offering) -> bytes:
    """Return the bytes of an offering."""
    models = [
        [
            *(one.manifest_id, one.loaded, float(one.load_s), one.running, one.queued, one.slots),
            *(float(one.prefill_tokens_s), float(one.decode_tokens_s)),
        ]
        for one in offering.models
    ]
    return bytes(msgpack.packb([offering.device, models], use_single_float=True))


def unpack(data: bytes) -> Offering:
    """Return what a member says that it offers.

    Raises:
        RemoteProtocolError: it can't be read, or is more than may be said.
    """
    if len(data) > OFFLOAD_ADVERT_MAX_BYTES:
        raise RemoteProtocolError(f"an advert of {len(data)} bytes")
    try:
        device, models = msgpack.unpackb(
            data,
            max_array_len=OFFLOAD_ADVERT_MAX_MODELS,
            max_map_len=0,
            max_ext_len=0,
            max_str_len=4 * OFFLOAD_DEVICE_MAX_CHARS,
            max_bin_len=DIGEST_BYTES,
        )
        if not isinstance(device, str) or not isinstance(models, list):
            raise ValueError("no device and models")
        return Offering(device[:OFFLOAD_DEVICE_MAX_CHARS], tuple(map(_model, models)))
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise RemoteProtocolError(f"an advert that can't be read: {error}") from error


def _model(said: list[object]) -> AdvertisedModel:
    if not isinstance(said, list) or len(said) < _MODEL_FIELDS:
        raise ValueError("no model")
    manifest_id, loaded, load_s, running, queued, slots, prefill, decode = said[:_MODEL_FIELDS]
    if not isinstance(manifest_id, bytes) or len(manifest_id) != DIGEST_BYTES:
        raise ValueError("no manifest id")
    return AdvertisedModel(
        ManifestId(manifest_id),
        loaded is True,
        *(_rate(load_s), _count(running), _count(queued), max(1, _count(slots))),
        *(_rate(prefill), _rate(decode)),
    )


def _rate(value: object) -> float:
    if not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError("no rate")
    return min(max(0.0, float(value)), _RATE_MAX)


def _count(value: object) -> int:
    if type(value) is not int:
        raise ValueError("no count")
    return min(max(0, value), _COUNT_MAX)


def _two_digits(value: float) -> float:
    return float(f"{value:.2g}") if math.isfinite(value) and value > 0 else 0.0
