"""Lets a pull of a public model take part in its swarm, while it goes on with its other lanes."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass

from dreamer.daemon.room.session import RoomSession
from dreamer.daemon.sharing.described import Description
from dreamer.daemon.sharing.pull_job import PullJob
from dreamer.daemon.sharing.torrent_lane import PublicSwarm, TorrentLane
from dreamer.daemon.store.download import Download
from dreamer.daemon.store.store import Store
from dreamer.daemon.torrent.client import Torrents
from dreamer.daemon.torrent.publicity import Publicity
from dreamer.protocol.content import torrent_metadata
from dreamer.protocol.content.torrent_layout import TorrentLayout
from dreamer.protocol.errors import DreamerError
from dreamer.protocol.registry.view import Model

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PublicSwarms:
    """The swarms of a node's public models, for its pulls."""

    torrents: Torrents
    publicity: Publicity
    store: Store

    def has(self, model: Model) -> bool:
        """Return whether a pull of this model may ask a swarm."""
        return self.torrents.enabled and model.torrent is not None

    async def join(
        self,
        job: PullJob,
        session: RoomSession,
        model: Model,
        description: Description,
        download: Download,
    ) -> None:
        """Make the swarm one of a job's sources; what is in the way is logged, and no more.

        A pull does without a swarm as it does without any other source.
        """
        try:
            swarm = await self._find(session, model, description, download)
            lane = TorrentLane(
                *(self.torrents, swarm, download, lambda: job.present, job.feed), job.gave_to_swarm
            )
            job.join_swarm(lane)
            await lane.start()
        except (DreamerError, OSError) as error:
            log.warning("%s is pulled without its torrent: %s", model.name, error)
            job.without_swarm()

    async def _find(
        self, session: RoomSession, model: Model, description: Description, download: Download
    ) -> PublicSwarm:
        assert model.torrent is not None, "only public models have a swarm"
        layout = TorrentLayout(download.manifest)
        data = await description.metadata(model.torrent)
        metadata = await asyncio.to_thread(torrent_metadata.parse, data, layout)
        trackers = self.publicity.trackers(session.card)
        return PublicSwarm(layout, metadata.object_bytes, trackers, self.store.new_folder())
