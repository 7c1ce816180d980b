"""Families of models: from config.json to every tensor of the real model."""
