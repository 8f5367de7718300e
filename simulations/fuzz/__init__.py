"""The search for scenarios in which the core breaks: by chance, then smaller and smaller."""
