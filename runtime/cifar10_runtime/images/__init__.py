"""Image files: finding and decoding them."""
