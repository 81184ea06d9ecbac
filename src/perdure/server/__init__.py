"""A system over HTTP: one endpoint for each method, with types, tokens, and keys that make a retry safe.

``Application`` is the ASGI application, for any server or as a part of another application; ``serve`` runs it.
"""

from perdure.extras import needed_module

for _name in ("starlette", "uvicorn", "httptools", "jinja2", "prometheus_client"):
    needed_module(_name, "server")

from perdure.server._application import Application  # noqa: E402
from perdure.server._background import BackgroundServer  # noqa: E402
from perdure.server._serve import check_exposure, serve  # noqa: E402
from perdure.server._settings import ServerLimits  # noqa: E402
from perdure.server._tokens import Token, Tokens, make_token, read_tokens  # noqa: E402

__all__ = [
    "Application",
    "BackgroundServer",
    "ServerLimits",
    "Token",
    "Tokens",
    "check_exposure",
    "make_token",
    "read_tokens",
    "serve",
]
