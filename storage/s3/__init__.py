"""Keeps objects in S3, or anything that speaks it; the only package that knows botocore and aiobotocore.

Writes and everything rare go through aiobotocore, which is loaded with the first of them. Reads, of which there are a
thousand times as many, are signed here and go through a client of their own that can do nothing but ``GET``.
"""

from storage.s3.config import S3Config
from storage.s3.hedging import Hedging
from storage.s3.store import R2Store, S3Store

__all__ = ["Hedging", "R2Store", "S3Config", "S3Store"]
