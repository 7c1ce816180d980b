"""How a served model is asked: over HTTP or through SageMaker's runtime, streamed, with retries."""
