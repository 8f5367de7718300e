"""``python -m dreamer.simulations.cli``."""

from dreamer.simulations.cli import main

main()
