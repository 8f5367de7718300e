"""What this node moved and paid for: the ledger, its sources, alerts, reports to its rooms."""
