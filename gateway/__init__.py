"""HTTP in front of storage and ingest."""
