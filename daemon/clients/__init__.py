"""The facets of the Python client, one for each subject; ``client.Dreamer`` holds them together."""
