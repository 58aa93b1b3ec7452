"""Data sets: reading, downloading, batches and transforms."""
