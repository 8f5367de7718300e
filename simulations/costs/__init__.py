"""What a month of a team's models costs: everything from S3, with caches, with peers."""
