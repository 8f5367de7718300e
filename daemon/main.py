"""The command ``dreamerd``: one node, in the foreground, until SIGTERM or Ctrl-C.

Exit status: 0; 1 for a refusal to start; 75 when an ephemeral worker ended with uploads left.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import os
import signal
import sys
import threading
from pathlib import Path

from dreamer.daemon.config_file import default_config_text
from dreamer.daemon.version import VERSION
from dreamer.daemon.worker.secrets_given import Invitation, keep_given_identity
from dreamer.daemon.worker.session_home import remove_session_home
from dreamer.daemon.worker.settling import Settled, settle
from dreamer.daemon.worker.starting import Starting
from dreamer.protocol.errors import DreamerError
from dreamer.protocol.limits import SHUTDOWN_MAX_S

log = logging.getLogger(__name__)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="dreamerd", description="Run a Dreamer node in the foreground."
    )
    parser.add_argument(
        "--home",
        metavar="DIR",
        help="where the node keeps its state (DREAMER_HOME; models: MODELS_DIR)",
    )
    parser.add_argument(
        "--config", metavar="FILE", type=Path, help="settings; HOME/config.toml by default"
    )
    parser.add_argument(
        "--with-tracker", action="store_true", help="run the team's tracker beside this node"
    )
    parser.add_argument(
        "--preload-only",
        action="store_true",
        help="fetch the models of [models] preload and end: for init containers",
    )
    parser.add_argument(
        "--print-default-config", action="store_true", help="print every setting and stop"
    )
    parser.add_argument("--version", action="version", version=f"dreamerd {VERSION}")
    return parser


def main() -> None:
    """Run the command."""
    given = _parser().parse_args()
    if given.print_default_config:
        sys.stdout.write(default_config_text())
        return
    status, refusal = 0, None
    try:
        settled = settle(given.home, given.config, os.environ)
        _start_log(settled.config.log.level)
        keep_given_identity(settled.places.home, os.environ)
        status = asyncio.run(_run(settled, given.with_tracker, given.preload_only))
    # Those raised while the node comes up arrive in the group of its tasks.
    except* DreamerError as group:
        refusal = _first(group)
    sys.exit(status if refusal is None else f"dreamerd: {refusal}")


def _first(group: BaseExceptionGroup[DreamerError]) -> BaseException:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _start_log(level: str) -> None:
    logging.basicConfig(
        level=level.upper(), format="%(asctime)s %(levelname)s %(name)s %(message)s"
    )
    # Libraries narrate each connection; what matters of it is said here.
    for chatty in ("aioice", "aiortc", "botocore", "boto3", "urllib3", "s3transfer"):
        logging.getLogger(chatty).setLevel(logging.WARNING)


async def _run(settled: Settled, with_tracker: bool, preload_only: bool) -> int:
    """Run the node to its end; return the exit status."""
    # Imported here so that --help, and a refusal to start, come at once.
    from dreamer.daemon.app import running_node
    from dreamer.daemon.worker.life import Life

    invitation = Invitation(settled.config.worker.join_token_file, os.environ)
    starting = Starting(settled.worker, invitation, preload_only)
    life = Life(settled, os.environ)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, life.stop)
    async with running_node(settled.config, settled.places, with_tracker, starting) as node:
        log.info("node %s (%s)", node.identity.node_id.hex(), node.name)
        log.info("%s worker: %s", settled.worker.kind, settled.worker.why)
        # What is there now stays: a full collection that walks it holds up every stream for 50 ms.
        gc.freeze()
        ended = await (life.preload(node) if preload_only else life.work(node))
        log.info("stopping")
        _end_at_last(ended.status or 1)
    # Kept if something is left in it, or if another is to follow: who starts dreamerd there again
    # goes on with what is there.
    if settled.worker.session and ended.nothing_left and not preload_only:
        await asyncio.to_thread(remove_session_home, settled.places.home)
    if ended.error is not None:
        raise ended.error
    return ended.status


def _end_at_last(status: int) -> None:
    """End the process if a thread hangs in a call that can't be interrupted (S3, a dead disk).

    Nothing is lost by it: content is verified when it is used, and the state is transactional.
    """

    def end() -> None:
        log.error("something did not stop in time: ending without it")
        os._exit(status)

    watchdog = threading.Timer(SHUTDOWN_MAX_S, end)
    watchdog.daemon = True
    watchdog.start()


if __name__ == "__main__":
    main()
