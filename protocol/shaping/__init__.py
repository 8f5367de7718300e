"""How fast bytes may go: limits of the rate by direction, lane and time of day; fair shares."""
