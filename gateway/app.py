"""Builds the ASGI application: routes, middleware, errors and lifespan."""

import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, aclosing, asynccontextmanager

import structlog
from prometheus_client import CollectorRegistry
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway import logs
from gateway.accesslog import AccessLog
from gateway.backstage import backstage
from gateway.errors import TABLE, MethodNotAllowed, NotFound, Row, problem, problem_response, row_of
from gateway.limits import RateExceeded
from gateway.metrics import Metrics
from gateway.middleware import CrossOrigin, Observed
from gateway.openapi import openapi
from gateway.protocol import EXPRESS
from gateway.routing import Resource
from gateway.services import Services, open_services
from gateway.settings import Settings
from gateway.shortcut import Shortcut
from gateway.throttle import Throttle, Tolls, too_many_requests
from storage.errors import MediaError

EXPOSED = (
    *("Content-Range", "Accept-Ranges", "ETag", "Content-Length"),
    *("X-Media-Source", "X-Media-Variant", "X-Request-ID", "Retry-After"),
)
log = structlog.get_logger()
Extra = Callable[[Services], AbstractAsyncContextManager[list[BaseRoute]]]


def create_app(settings: Settings | None = None, *, extra: Extra | None = None) -> Starlette:
    """Return the application; without ``settings`` they are read from the environment.

    ``extra`` adds routes that live as long as the services do: the demo's page.

    Raises:
        ConfigurationError: The environment is wrong.
    """
    settings = settings or Settings.load()
    logs.configure(settings.gateway.log_level)
    registry = CollectorRegistry()
    metrics, tolls = Metrics(registry), Tolls.of(settings.gateway)
    access_log = AccessLog(
        enabled=settings.gateway.log_level in {"debug", "info"}, every=settings.gateway.access_log_every
    )

    handlers = {**dict.fromkeys(TABLE, _failed), HTTPException: _refused, RateExceeded: _throttled}
    around = [
        Middleware(Observed, metrics=metrics, access_log=access_log),
        Middleware(Shortcut),
        *_cors(settings),
        _throttle(tolls, metrics),
    ]

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[Mapping[str, object]]:
        async with aclosing(access_log), AsyncExitStack() as stack:
            stack.callback(metrics.batch.settle)
            opening = open_services(settings, metrics, registry, tolls=tolls, access_log=access_log)
            services = await stack.enter_async_context(opening)
            app.router.routes[:] = routes(services)
            if settings.gateway.operations_port is not None:
                app.router.routes[:] = public_routes(services)
                inside = Starlette(routes=operator_routes(services), middleware=around, exception_handlers=handlers)
                host, port = settings.gateway.listen_host, settings.gateway.operations_port
                await stack.enter_async_context(backstage(inside, host=host, port=port))
            if extra is not None:
                app.router.routes.extend(await stack.enter_async_context(extra(services)))
            yield {EXPRESS: services.express, Shortcut.STATE: services.shortcut}

    app = Starlette(lifespan=lifespan, middleware=around, exception_handlers=handlers)
    app.router.redirect_slashes = False  # every resource has one URL
    return app


def routes(services: Services) -> list[Resource]:
    """Return every route of the gateway."""
    return [*public_routes(services), *operator_routes(services)]


def public_routes(services: Services) -> list[Resource]:
    """Return what clients, the host application and the provider ask for, in one table."""
    messages, webhooks, operations = services.messages, services.webhooks, services.operations
    webhook = {"GET": endpoint(webhooks.handshake), "POST": endpoint(webhooks.receive)}
    medium: dict[str, ASGIApp] = {
        "GET": services.media,
        "HEAD": services.media,
        "PUT": endpoint(messages.put),
        "DELETE": endpoint(messages.delete),
    }
    return [
        Resource("/media/messages/{message_id}", "media", medium),
        Resource("/media/messages/{message_id}/hls/{file}", "stream", {"GET": services.media, "HEAD": services.media}),
        Resource("/media/messages/{message_id}/info", "info", {"GET": endpoint(messages.info)}),
        Resource("/media/messages/{message_id}/url", "url", {"POST": endpoint(services.urls.mint)}),
        Resource("/media/messages/{message_id}/retry", "retry", {"POST": endpoint(messages.retry)}),
        Resource("/media/urls", "urls", {"POST": endpoint(services.urls.mint_many)}),
        Resource("/media/messages", "messages", {"GET": endpoint(messages.page)}),
        Resource("/webhooks/whatsapp", "webhook", webhook),
        Resource("/webhooks/whatsapp/{workspace_id}", "webhook", webhook),
        Resource("/healthz", "healthz", {"GET": endpoint(operations.healthz)}),
        Resource("/openapi.json", "openapi", {"GET": endpoint(openapi)}),
    ]


def operator_routes(services: Services) -> list[Resource]:
    """Return what can be put on a port of its own."""
    operations = services.operations
    return [
        Resource("/readyz", "readyz", {"GET": endpoint(operations.readyz)}),
        Resource("/metrics", "metrics", {"GET": endpoint(operations.metrics)}),
    ]


def endpoint(function: Callable[[Request], object]) -> ASGIApp:
    """Return an ASGI application that answers by a function from request to response."""

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        response = await function(Request(scope, receive))  # type: ignore[misc] # a coroutine function
        await response(scope, receive, send)

    return answer


def _cors(settings: Settings) -> list[Middleware]:
    origins = settings.gateway.cors_origins
    if not origins:
        return []
    return [
        Middleware(
            CrossOrigin,
            allow_origins=origins,
            allow_methods=["GET", "HEAD", "POST"],
            allow_headers=["Range", "If-Range", "If-None-Match", "If-Modified-Since", "Authorization", "X-API-Key"],
            expose_headers=EXPOSED,
            max_age=86_400,
        )
    ]


def _throttle(tolls: Tolls, metrics: Metrics) -> Middleware:
    return Middleware(
        Throttle,
        addresses=tolls.addresses,
        credentials=tolls.credentials,
        trusted=tolls.trusted,
        observer=metrics,
    )


async def _throttled(request: Request, error: Exception) -> Response:
    if not isinstance(error, RateExceeded):
        raise error
    return too_many_requests(error, request.scope)


async def _failed(request: Request, error: Exception) -> Response:
    if isinstance(error, MediaError):
        level = logging.WARNING if row_of(error).status >= 500 else logging.INFO  # noqa: PLR2004 server errors
        log.log(level, "media error", error=type(error).__name__, detail=str(error))
    return problem(error, _request_id(request))


async def _refused(request: Request, error: Exception) -> Response:
    """Answer what Starlette itself refuses: an unknown path, a method that a route does not know."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    if status == 404:  # noqa: PLR2004 Not Found
        return problem(NotFound("There is nothing at this path."), _request_id(request))
    headers = getattr(error, "headers", None)
    if status == 405:  # noqa: PLR2004 Method Not Allowed
        return problem(MethodNotAllowed(headers=headers), _request_id(request))
    return problem_response(
        Row(status, "Refused"), "refused", "The request was refused.", _request_id(request), headers=headers
    )


def _request_id(request: Request) -> str:
    return str(request.scope.get("state", {}).get("request_id", ""))
