"""The scenarios, each of which ends in one pull whose file must be right."""
