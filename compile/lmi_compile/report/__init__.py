"""Verdicts for people and for CI: an HTML page, a Markdown summary, JUnit."""
