"""The version of this installation, as its package metadata has it."""

from importlib.metadata import version

VERSION = version("dreamer")
