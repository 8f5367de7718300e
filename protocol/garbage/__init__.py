"""What lies at a room's origin, what of it is garbage, and how it goes while others push."""
