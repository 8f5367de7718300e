"""The command ``dreamer-sim``."""


def main() -> None:
    """Run the command."""
    raise SystemExit("not built yet")
