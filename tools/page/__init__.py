"""A bundle as one page for a browser."""
