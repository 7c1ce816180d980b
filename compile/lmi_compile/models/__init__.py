"""Model sources: where a recipe's model comes from, what it is, and how it becomes files."""
