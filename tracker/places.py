"""How many connections each address has, for the bound on them; IPv6 counts by the /64."""

from __future__ import annotations

from dreamer.tracker.sites import site_of


class Place:
    """The connections of one site; all of them hold this same object, so that it costs little."""

    __slots__ = ("_places", "site", "taken")

    def __init__(self, places: Places, site: str) -> None:
        self.site = site
        self.taken = 0
        self._places = places

    def over(self, times: int = 1) -> bool:
        """Return whether more than so many times the bound are there."""
        most = self._places.most
        return most > 0 and self.taken > most * times

    def give_back(self) -> None:
        """Count one connection less."""
        self.taken -= 1
        if not self.taken:
            self._places.forget(self.site)


class Places:
    """Every address that is connected; ``most`` is the bound for each, 0 for none."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._by_site: dict[str, Place] = {}

    def take(self, address: str) -> Place:
        """Count one connection more, even if that is too many: see ``Place.over``."""
        site = site_of(address)
        place = self._by_site.get(site)
        if place is None:
            place = self._by_site[site] = Place(self, site)
        place.taken += 1
        return place

    def forget(self, site: str) -> None:
        """Drop a site that has no connections."""
        del self._by_site[site]
