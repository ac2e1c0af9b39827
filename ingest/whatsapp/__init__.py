"""The WhatsApp Cloud API as an origin of media.

::

    accounts                       one origin for all workspaces, each with an account of its own
    ── client | budget             what fetches; what decides whether to ask at all
    ── exchange | provider         one request and its answer; accounts, profiles, limits
    ── answers | dialling | breaker    what answers mean; whom we may call; when to stop
"""
