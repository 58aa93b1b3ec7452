"""The data set: download, binary files, training batches and transforms."""
