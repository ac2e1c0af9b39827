"""The CDNs in front of the gateway, as far as they have to forget what was deleted.

::

    cloudfront | cloudflare    one way to purge each
    ── purge                   the contract, its errors, and the names of media
"""
