"""What a worker tells of the model that it has loaded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dreamer.daemon.inference.channel import specs_from
from dreamer.daemon.inference.load_options import CPU
from dreamer.daemon.surfaces.inference import Signature


@dataclass(frozen=True)
class Card:
    """A model's signature, how many requests a worker takes at once, and where it runs."""

    signature: Signature
    slots: int
    device: str

    @classmethod
    def from_fields(cls, fields: Mapping[str, Any]) -> Card:
        """Return the card in a ``ready`` frame."""
        signature = Signature(
            fields["kind"],
            specs_from(fields.get("inputs", [])),
            specs_from(fields.get("outputs", [])),
            fields.get("context", 0),
            fields.get("dimensions", 0),
            fields.get("template", ""),
            fields.get("config"),
        )
        return cls(signature, max(1, fields.get("slots", 1)), fields.get("device", CPU))
