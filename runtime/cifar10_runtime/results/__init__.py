"""Rows, result files and the report page."""
