"""Measuring an endpoint: a sweep over concurrency, statistics with their confidence, pages."""
