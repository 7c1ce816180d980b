"""What was made: manifests, statements, bundles, registries, and what containers accept."""
