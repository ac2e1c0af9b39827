"""Wraps an object store in retries, a limit or measurements; every wrapper is an object store itself."""

from storage.middleware.limited import LimitedStore
from storage.middleware.metered import OUTCOMES, MeteredStore, Observer
from storage.middleware.retrying import RetryingStore, backoff

__all__ = ["OUTCOMES", "LimitedStore", "MeteredStore", "Observer", "RetryingStore", "backoff"]
