"""The command ``dreamerd``: one node, in the foreground, until SIGTERM or Ctrl-C."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import sys
import threading
from pathlib import Path

from dreamer.daemon.config import Config
from dreamer.daemon.config_file import default_config_text, load_config
from dreamer.daemon.places import Places, find_home, find_places
from dreamer.daemon.version import VERSION
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
    try:
        config, places = _settings(given.home, given.config)
        logging.basicConfig(
            level=config.log.level.upper(),
            format="%(asctime)s %(levelname)s %(name)s %(message)s",
        )
        # Libraries narrate each connection; what matters of it is said here.
        for chatty in ("aioice", "aiortc", "botocore", "boto3", "urllib3", "s3transfer"):
            logging.getLogger(chatty).setLevel(logging.WARNING)
        asyncio.run(_serve(config, places, given.with_tracker))
    except DreamerError as error:
        sys.exit(f"dreamerd: {error}")


def _settings(home_option: str | None, config_option: Path | None) -> tuple[Config, Places]:
    home = find_home(home_option, os.environ)
    config = load_config(
        config_option or home / "config.toml", os.environ, must_exist=config_option is not None
    )
    return config, find_places(home, config.node.models_dir)


async def _serve(config: Config, places: Places, with_tracker: bool) -> None:
    # Imported here so that --help, and a refusal to start, come at once.
    from dreamer.daemon.app import running_node

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with running_node(config, places, with_tracker) as node:
        print(f"dreamerd is ready: {places.socket}", flush=True)  # noqa: T201 - for scripts
        log.info("node %s (%s)", node.identity.node_id.hex(), node.name)
        await stop.wait()
        log.info("stopping")
        _end_at_last()


def _end_at_last() -> None:
    """End the process if a thread hangs in a call that can't be interrupted (S3, a dead disk).

    Nothing is lost by it: content is verified when it is used, and the state is transactional.
    """

    def end() -> None:
        log.error("something did not stop in time: ending without it")
        os._exit(1)

    watchdog = threading.Timer(SHUTDOWN_MAX_S, end)
    watchdog.daemon = True
    watchdog.start()


if __name__ == "__main__":
    main()
