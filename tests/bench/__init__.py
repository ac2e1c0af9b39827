"""Measurements: each part prints one JSON line; nothing here is a test with a clock."""
