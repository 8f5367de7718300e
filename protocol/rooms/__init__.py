"""Who may do what: keys, the signature chain room → invitation → node, tokens, revocations."""
