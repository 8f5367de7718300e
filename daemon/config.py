"""What a node can be told: one TOML file, overridden by ``DREAMER_<SECTION>_<KEY>``.

Each key's documentation stands beside its field; ``dreamerd --print-default-config`` prints them
all. A key that does not exist is an error: a misspelt setting must not be a silent default.
"""

from __future__ import annotations

from dataclasses import Field, dataclass, field, fields
from typing import Any, cast

from dreamer.daemon.setting_checks import Check
from dreamer.daemon.settings.cost import CostSection
from dreamer.daemon.settings.inference import InferenceSection
from dreamer.daemon.settings.models import ModelsSection
from dreamer.daemon.settings.network import NetworkSection, SharingSection
from dreamer.daemon.settings.node import ApiSection, LogSection, NodeSection
from dreamer.daemon.settings.offload import OffloadSection
from dreamer.daemon.settings.store import StoreSection
from dreamer.daemon.settings.torrent import TorrentSection
from dreamer.daemon.settings.tracker import TrackerSection
from dreamer.daemon.settings.worker import WorkerSection
from dreamer.protocol.errors import InputError


@dataclass(frozen=True)
class Config:
    """Every setting of a node, checked."""

    node: NodeSection = field(default_factory=NodeSection)
    api: ApiSection = field(default_factory=ApiSection)
    network: NetworkSection = field(default_factory=NetworkSection)
    sharing: SharingSection = field(default_factory=SharingSection)
    tracker: TrackerSection = field(default_factory=TrackerSection)
    torrent: TorrentSection = field(default_factory=TorrentSection)
    inference: InferenceSection = field(default_factory=InferenceSection)
    offload: OffloadSection = field(default_factory=OffloadSection)
    cost: CostSection = field(default_factory=CostSection)
    worker: WorkerSection = field(default_factory=WorkerSection)
    models: ModelsSection = field(default_factory=ModelsSection)
    store: StoreSection = field(default_factory=StoreSection)
    log: LogSection = field(default_factory=LogSection)


SECTIONS: dict[str, type[Any]] = {
    one.name: cast("type[Any]", one.default_factory) for one in fields(Config)
}
"""The sections of the file by name, in the order they are printed."""


def check_range(section: str, key: Field[Any], value: object) -> None:
    """Check a value of the right type against its field's own rule.

    Raises:
        InputError: it is out of range.
    """
    check: Check | None = key.metadata["check"]
    wanted = check(value) if check else None
    if wanted:
        raise InputError(f"[{section}] {key.name} must be {wanted}, not {value!r:.80}")
