"""One answer of a model that writes: from a conversation to tokens, from logits to text."""
