"""The thin runtime: runs a bundle's programs. It knows no model, and torch or ttnn only inside their own backends."""
