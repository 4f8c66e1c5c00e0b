"""A store in files."""
