"""nginx, for what holds the objects as a bucket would, and for the proxy that everybody compares with."""

import grp
import os
import pwd
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.bench.speed.processes import Server, server
from tests.running import free_port

# One process each, as of everything that is compared. Its log is off: ours is what has to keep up with it all the same.
_MAIN = """
daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/error.log; user {user} {group};
events {{ worker_connections 8192; }}
http {{
    access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000000;
    types {{ }} default_type application/octet-stream;
    client_body_temp_path {folder}/1; proxy_temp_path {folder}/2; fastcgi_temp_path {folder}/3;
    uwsgi_temp_path {folder}/4; scgi_temp_path {folder}/5;
    {servers}
}}
"""
_ORIGIN = "server {{ listen 127.0.0.1:{port} backlog=4096; root {root}; etag on; }}"
_PROXY = """
upstream origin {{ server {origin}; keepalive 64; keepalive_requests 1000000000; }}
server {{
    listen 127.0.0.1:{port} backlog=4096;
    location / {{
        proxy_pass http://origin; proxy_http_version 1.1; proxy_set_header Connection "";
        {directives}
    }}
}}
"""
# By default 64 KB are buffered, and what a client does not take at once goes through a file.
TUNED = "proxy_buffer_size 16k; proxy_buffers 16 64k; proxy_busy_buffers_size 256k; proxy_max_temp_file_size 0;"
"""Of what was tried, the fastest for large bodies."""


@asynccontextmanager
async def origin(folder: Path, root: Path) -> AsyncIterator[Server]:
    """Serve the files below ``root`` as a bucket serves objects: by path, with ETag and ranges, signed or not."""
    port = free_port()
    async with _nginx(folder, port, _ORIGIN.format(port=port, root=root)) as running:
        yield running


@asynccontextmanager
async def proxy(folder: Path, upstream: str, directives: str = "") -> AsyncIterator[Server]:
    """Pass every request on to ``upstream``, host and port, over kept connections, with more directives or without."""
    port = free_port()
    async with _nginx(folder, port, _PROXY.format(port=port, origin=upstream, directives=directives)) as running:
        yield running


@asynccontextmanager
async def _nginx(folder: Path, port: int, servers: str) -> AsyncIterator[Server]:
    folder.mkdir(parents=True)  # noqa: ASYNC240 nothing else runs yet
    user, group = pwd.getpwuid(os.getuid()).pw_name, grp.getgrgid(os.getgid()).gr_name
    configuration = folder / "nginx.conf"
    configuration.write_text(_MAIN.format(folder=folder, user=user, group=group, servers=servers))
    command = ["nginx", "-p", str(folder), "-e", "stderr", "-c", str(configuration)]
    async with server(command, f"http://127.0.0.1:{port}", folder / "output.log") as running:
        yield running
