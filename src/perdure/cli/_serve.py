"""``perdure serve``: a system over HTTP."""

from __future__ import annotations

import logging
import os
import sys
from typing import Any

import click

from perdure import control
from perdure.cli._app import App, load_app
from perdure.cli._common import (
    class_options,
    codec_option,
    durability_option,
    emit_json,
    json_option,
    secret_option,
)
from perdure.engines import is_engine_url


@click.command(short_help="Serve a system over HTTP.")
@click.argument("app", metavar="app:Wiki")
@click.option(
    "--dir",
    "directory",
    metavar="DIR",
    help="Where it is kept; or an engine's URL. [default: the class's name, lower case]",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen at.")
@click.option("--port", default=8000, show_default=True, type=click.IntRange(0, 65535), help="0: any that is free.")
@click.option("--token-file", metavar="FILE", help="A line for each token: SCOPES TOKEN [NAME]. Only you may read it.")
@click.option("--tls-cert", metavar="FILE", help="The certificate, PEM.")
@click.option("--tls-key", metavar="FILE", help="Its key, PEM.")
@codec_option
@durability_option
@click.option("--keep-history", is_flag=True, help="Prune nothing, so that any past moment can be looked at.")
@click.option("--body-bytes-max", type=click.IntRange(min=1), help="The largest body of a request.")
@click.option("--calls-max", type=click.IntRange(min=1), help="Calls at once; further ones are asked to come again.")
@click.option("--connections-max", type=click.IntRange(min=1), help="Open connections; further ones are refused.")
@click.option("--receive-timeout", "receive_timeout_s", type=click.FloatRange(min=0.1), help="Seconds to send in.")
@click.option("--call-timeout", "call_timeout_s", type=click.FloatRange(min=0.1), help="Seconds to wait for a call.")
@class_options
@secret_option
@json_option
def serve(
    app: str,
    directory: str | None,
    host: str,
    port: int,
    token_file: str | None,
    tls_cert: str | None,
    tls_key: str | None,
    codec: str,
    durability: str,
    keep_history: bool,
    allow: tuple[str, ...],
    renames: dict[str, str],
    secrets: tuple[bytes, ...],
    as_json: bool,
    **bounds: Any,
) -> int:
    """Open a system, or create it, and serve its methods over HTTP, with a page for people at /.

    SIGTERM and SIGINT stop it: what was accepted is answered, and the system is closed. Beyond this machine it listens
    only with --token-file; use --tls-cert and --tls-key there, or something in front that speaks TLS.
    """
    from perdure import server

    tokens = server.read_tokens(token_file) if token_file is not None else server.Tokens()
    server.check_exposure(host, tokens)
    limits = server.ServerLimits(**{name: value for name, value in bounds.items() if value is not None})
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s", level=logging.WARNING)
    loaded = load_app(app, {"codec": codec}, allow=allow, renames=renames, secrets=secrets)
    system = _open(loaded, directory, durability=durability, keep_history=keep_history)
    try:
        application = server.Application(system, tokens=tokens, limits=limits, allow=allow)

        def ready(url: str) -> None:
            if as_json:
                emit_json({"url": url, "pid": os.getpid(), "directory": control(system).path}, indent=None)
            else:
                click.echo(f"{loaded.cls.__name__} in {control(system).path} at {url}")
            sys.stdout.flush()

        server.serve(application, host=host, port=port, certificate=tls_cert, key=tls_key, ready=ready)
    finally:
        control(system).close()
    return 0


def _open(loaded: App, directory: str | None, **options: Any) -> Any:
    if directory is not None and is_engine_url(directory):
        return loaded.open(directory, validate="error", **options)
    return loaded.open(os.path.abspath(directory or loaded.cls.__name__.lower()), validate="error", **options)
