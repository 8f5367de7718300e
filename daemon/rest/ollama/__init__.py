"""Ollama's API over a node: what it asks for means here what ``docs/ollama.md`` says."""
