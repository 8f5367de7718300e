"""Where a model comes from: who trained it, when, from which models, how, and how well it did."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from dreamer.protocol.canonical import Json, dumps
from dreamer.protocol.errors import InputError
from dreamer.protocol.ids import Digest, ManifestId, from_hex
from dreamer.protocol.registry.names import check_field, check_line
from dreamer.protocol.registry.reading import INTEGER_MAX, Reader
from dreamer.protocol.registry_limits import (
    AUTHOR_MAX_CHARS,
    CONFIG_MAX_ENTRIES,
    CONFIG_VALUE_MAX_CHARS,
    METRICS_MAX_PER_MODEL,
    PARENTS_MAX_PER_MODEL,
    PROVENANCE_MAX_BYTES,
)

Setting = str | int | float | bool
"""One value of a configuration."""


@dataclass(frozen=True)
class Provenance:
    """What the publisher says of a model's making; every part may be missing.

    ``trained_by`` is a person or job, ``trained_at`` in epoch seconds, ``parents`` the manifests
    that it was trained from. ``config`` holds a small configuration itself, ``config_digest`` the
    BLAKE3 of a large one. ``extra`` keeps what a later version added.
    """

    trained_by: str = ""
    trained_at: float | None = None
    parents: tuple[ManifestId, ...] = ()
    config: Mapping[str, Setting] = field(default_factory=dict, hash=False)
    config_digest: Digest | None = None
    metrics: Mapping[str, float] = field(default_factory=dict, hash=False)
    extra: Json = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        check_line(self.trained_by, "who trained a model,", AUTHOR_MAX_CHARS)
        if self.trained_at is not None:
            object.__setattr__(self, "trained_at", exact_seconds(self.trained_at, "trained_at"))
        if len(self.parents) > PARENTS_MAX_PER_MODEL:
            raise InputError(f"a model can have {PARENTS_MAX_PER_MODEL} parents at most")
        if len(dict.fromkeys(self.parents)) < len(self.parents):
            raise InputError("a model has the same parent twice")
        _check_config(self.config)
        _check_metrics(self.metrics)
        if len(dumps(self.fields())) > PROVENANCE_MAX_BYTES:
            raise InputError(
                f"the configuration and metrics are longer than {PROVENANCE_MAX_BYTES} bytes: push "
                "them as a file of the model, and name the file's digest here"
            )

    def fields(self) -> Json:
        """Return the JSON fields; a part that is missing has none."""
        found: Json = {
            "trained_by": self.trained_by,
            "trained_at": self.trained_at,
            "parents": [parent.hex() for parent in self.parents],
            "config": dict(self.config),
            "config_digest": self.config_digest.hex() if self.config_digest else None,
            "metrics": dict(self.metrics),
        }
        # Zero is a time, the other parts are missing when they are empty.
        present = {key: value for key, value in found.items() if value or value == 0.0}
        return {**self.extra, **present}


def read_provenance(value: object) -> Provenance:
    """Read the fields of a provenance.

    Raises:
        InputError: a part of a wrong type, or out of its bounds.
    """
    fields = Reader(value, "a model's provenance")
    parents = fields.items("parents") if fields.has("parents") else []
    return Provenance(
        trained_by=fields.text("trained_by") if fields.has("trained_by") else "",
        trained_at=fields.seconds("trained_at") if fields.has("trained_at") else None,
        parents=tuple(ManifestId(from_hex(parent, "a parent")) for parent in parents),
        config=fields.mapping("config") if fields.has("config") else {},
        config_digest=(
            Digest(fields.hex_bytes("config_digest")) if fields.has("config_digest") else None
        ),
        metrics=fields.mapping("metrics") if fields.has("metrics") else {},
        extra=fields.rest(),
    )


def exact_seconds(value: float, what: str) -> float:
    """Return a time or a span in seconds in the one form that is signed and read back.

    Raises:
        InputError: not a finite number, or negative.
    """
    check_number(value, what)
    if value < 0:
        raise InputError(f"{what} can't be negative: {value!r}")
    # 5 and 5.0 are the same time and two different texts.
    return float(value)


def check_number(value: object, what: str) -> None:
    """Refuse what no JSON reader would keep as it is.

    Raises:
        InputError: no number, infinite, not a number, or an integer beyond 2**53.
    """
    # In Python true is an int, in JSON it is none.
    if isinstance(value, float) and math.isfinite(value):
        return
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) <= INTEGER_MAX:
        return
    raise InputError(f"{what} must be a finite number, not {value!r:.40}")


def _check_config(config: Mapping[str, Setting]) -> None:
    if len(config) > CONFIG_MAX_ENTRIES:
        raise InputError(
            f"a configuration can have {CONFIG_MAX_ENTRIES} entries here: name its digest instead"
        )
    for name, value in config.items():
        check_field(name)
        if isinstance(value, str):
            check_line(value, f"the setting {name}", CONFIG_VALUE_MAX_CHARS)
        elif not isinstance(value, bool):
            check_number(value, f"the setting {name}")


def _check_metrics(metrics: Mapping[str, float]) -> None:
    if len(metrics) > METRICS_MAX_PER_MODEL:
        raise InputError(f"a model can have {METRICS_MAX_PER_MODEL} metrics at most")
    for name, value in metrics.items():
        check_number(value, f"the metric {check_field(name)}")
