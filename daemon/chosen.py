"""From settings to what the parts of a node take."""

from __future__ import annotations

import sys

from dreamer.daemon.config import Config
from dreamer.daemon.inference.pool.memory import worker_memory_bytes
from dreamer.daemon.inference.pool.pool import PoolSettings
from dreamer.daemon.links.ice import IceSettings
from dreamer.daemon.store.quota import StoreLimits
from dreamer.daemon.torrent.vocabulary import Configure
from dreamer.daemon.version import VERSION
from dreamer.daemon.worker.kind import Worker
from dreamer.protocol.costs import GB
from dreamer.protocol.limits import GIB, MIB
from dreamer.protocol.relay_budget import Budgets


def pool_settings(config: Config) -> PoolSettings:
    """Return how models are run."""
    inference = config.inference
    bound = worker_memory_bytes(inference.max_worker_memory_mib)
    if inference.max_memory_gb and not inference.max_worker_memory_mib:
        bound = min(bound or sys.maxsize, round(inference.max_memory_gb * GB))
    return PoolSettings(
        max_models=inference.max_models,
        max_memory_bytes=round(inference.max_memory_gb * GB),
        workers_per_gpu=inference.workers_per_gpu,
        threads=inference.threads,
        slots=inference.slots,
        prefix_cache_bytes=inference.prefix_cache_mib * MIB,
        spare_workers=inference.spare_workers,
        idle_timeout_s=inference.idle_timeout_s,
        queue_max=inference.queue,
        memory_bytes=bound,
        gpu_memory_bytes=inference.max_worker_gpu_memory_mib * MIB,
        use_gpu=inference.gpu,
        load_timeout_s=inference.load_timeout_s,
        silence_timeout_s=inference.silence_timeout_s,
        assignment=inference.assignment,
        eviction=inference.eviction,
        preferred_gpu=inference.gpus(),
    )


def store_limits(config: Config) -> StoreLimits:
    """Return what models may take on the disk."""
    store = config.store
    return StoreLimits(int(store.quota_gib * GIB), int(store.min_free_gib * GIB), store.grace_s)


def relay_budgets(config: Config) -> Budgets:
    """Return what relays may carry."""
    network = config.network
    return Budgets(
        per_peer_bytes=network.relay_budget_mib_per_peer * MIB,
        per_day_bytes=network.relay_budget_mib_per_day * MIB,
        per_month_bytes=network.relay_budget_mib_per_month * MIB,
    )


def torrent_client(config: Config, worker: Worker) -> Configure | None:
    """Return how torrents are exchanged; None if not at all."""
    wanted = config.torrent
    # With relay = "only" no address of this node may be told to anybody, and a swarm is told it.
    if not wanted.enabled or config.network.relay == "only":
        return None
    # Who fetches by torrent is named to the swarm, and gives to it.
    if worker.ephemeral:
        return None
    listen = ",".join(wanted.listen)
    return Configure(listen, f"Dreamer/{VERSION}", wanted.local_peers, wanted.dht, wanted.stun)


def ice_settings(config: Config) -> IceSettings:
    """Return the STUN and TURN servers of the settings."""
    network = config.network
    servers = [{"urls": url} for url in network.stun]
    if network.relay != "never":
        servers += [
            {"urls": url, "username": network.turn_username, "credential": network.turn_password}
            for url in network.turn
        ]
    return IceSettings(
        tuple(servers), relay_only=network.relay == "only", relays=network.relay != "never"
    )
