"""From an artifact to an endpoint: pure planning of requests, then boto3 carries them out."""
