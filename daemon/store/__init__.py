"""The content store: files by their hashes, on disk, whole or on their way in."""
