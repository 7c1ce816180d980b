"""The registry in an S3 bucket; boto3 is imported by `client` alone."""
