"""``python -m dreamer.daemon.cli``."""

from dreamer.daemon.cli import main

main()
