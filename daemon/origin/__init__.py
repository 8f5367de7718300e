"""The origin: S3, the copy of last resort. Importing this costs nothing; boto3 comes with use."""
