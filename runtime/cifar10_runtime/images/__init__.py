"""Image files: find, read and decode them."""
