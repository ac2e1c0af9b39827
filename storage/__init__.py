"""Bytes and facts: object stores, records and the layered read; knows nothing of HTTP or WhatsApp."""
