"""What values of settings may be: each check returns what one must be when it is not, else None."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dreamer.protocol.errors import InputError
from dreamer.protocol.ids import from_hex
from dreamer.protocol.limits import (
    DIRECT_ADDRESSES_MAX,
    RATE_LIMIT_MAX_MBIT,
    RATE_LIMIT_MIN_MBIT,
)
from dreamer.protocol.shaping.rates import rate_bytes_s

Check = Callable[[Any], str | None]
"""Returns what a value must be when it is not, else None."""


def between(low: float, high: float) -> Check:
    """Return the check of a number within bounds, both allowed."""
    return lambda value: None if low <= value <= high else f"between {low} and {high}"


def a_socket_mode(value: str) -> str | None:
    """Check the permissions of a socket."""
    good = len(value) == 4 and value[0] == "0" and set(value) <= set("01234567")
    if good and value[1] in "67" and value[3] == "0":
        return None
    return 'an octal mode that the owner can write and others can\'t, such as "0600" or "0660"'


def split_address(listen: str) -> tuple[str, int] | None:
    """Return host and port of ``HOST:PORT`` (``[::1]:0`` for IPv6), or None when it is neither."""
    host, colon, port = listen.rpartition(":")
    if not colon or not host or not port.isdecimal() or int(port) > 65535:
        return None
    return host.removeprefix("[").removesuffix("]"), int(port)


def an_address(value: str) -> str | None:
    """Check an address to listen on."""
    return None if split_address(value) else 'HOST:PORT, such as "0.0.0.0:8470"'


def an_address_or_none(value: str) -> str | None:
    """Check an address to listen on, or nothing."""
    return an_address(value) and 'empty or HOST:PORT, such as "0.0.0.0:8471"' if value else None


def several_addresses(values: tuple[str, ...]) -> str | None:
    """Check addresses to dial."""
    good = len(values) <= DIRECT_ADDRESSES_MAX // 2 and all(
        (found := split_address(value)) and found[1] for value in values
    )
    return None if good else f"a list of at most {DIRECT_ADDRESSES_MAX // 2} HOST:PORT"


def addresses_to_listen_at(values: tuple[str, ...]) -> str | None:
    """Check addresses to accept at; port 0 leaves the choice to the system."""
    good = bool(values) and all(split_address(value) for value in values)
    return None if good else 'a list of HOST:PORT, such as "0.0.0.0:6881" or "[::]:6881"'


def loopback_or_none(value: str) -> str | None:
    """Check an address of this machine alone, or nothing."""
    address = split_address(value)
    if not value or (address and address[0] in ("127.0.0.1", "::1", "localhost")):
        return None
    return 'empty or a loopback HOST:PORT such as "127.0.0.1:8471" (other hosts would need TLS)'


def unix_or_loopback_or_none(value: str) -> str | None:
    """Check an address of this machine alone, the word for a Unix socket, or nothing."""
    wanted = None if value == "unix" else loopback_or_none(value)
    return wanted and 'empty, "unix", or a loopback HOST:PORT such as "127.0.0.1:8001"'


def room_ids_only(values: tuple[str, ...]) -> str | None:
    """Check ids of rooms."""
    try:
        for value in values:
            from_hex(value, "a room's id")
    except InputError:
        return "a list of room ids, each 64 lower-case hex digits"
    return None


def parsed(parse: Callable[[tuple[str, ...]], object]) -> Check:
    """Return the check of lines that ``parse`` understands."""

    def check(lines: tuple[str, ...]) -> str | None:
        try:
            parse(lines)
        except InputError as error:
            return f"a list of limits; {error};"
        return None

    return check


def a_rate(mbit: float) -> str | None:
    """Check a limit in megabits per second."""
    try:
        rate_bytes_s(mbit)
    except InputError:
        return f"0, or {RATE_LIMIT_MIN_MBIT:g} to {RATE_LIMIT_MAX_MBIT:g}"
    return None


def with_schemes(*schemes: str) -> Check:
    """Return the check of URLs that begin with one of ``schemes``."""

    def check(urls: tuple[str, ...]) -> str | None:
        good = all(url.startswith(tuple(f"{scheme}:" for scheme in schemes)) for url in urls)
        return None if good else f"a list of URLs that start with {' or '.join(schemes)}:"

    return check
