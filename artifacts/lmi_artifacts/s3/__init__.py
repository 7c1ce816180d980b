"""The registry in an S3 bucket; botocore is imported by `client` alone."""
