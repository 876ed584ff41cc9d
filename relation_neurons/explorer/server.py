"""Serve the explorer on this machine alone: it listens on the loopback interface, and its pages load nothing else."""

from __future__ import annotations

import logging
import socket
import webbrowser
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import dash
import flask
from werkzeug.serving import BaseWSGIServer, WSGIRequestHandler, make_server

from relation_neurons.errors import reason, refuse
from relation_neurons.explorer.callbacks import connect
from relation_neurons.explorer.layout import page
from relation_neurons.explorer.run_data import RunData
from relation_neurons.report.neuron_cards import cards_css

HOST = "127.0.0.1"
NAMES = (HOST, "localhost")
"""What a request may call this machine and its sender; others come from pages elsewhere."""
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)
"""Browsers load nothing from elsewhere, whatever a page asks for."""
INDEX = """<!doctype html>
<html lang="en">
<head>
<meta name="viewport" content="width=device-width, initial-scale=1">
{%metas%}<title>{%title%}</title>{%favicon%}{%css%}
<style>CARDS</style>
</head>
<body>{%app_entry%}<footer>{%config%}{%scripts%}{%renderer%}</footer></body>
</html>
"""


class Quiet(WSGIRequestHandler):
    """Prints no line for each request."""

    def log(self, type: str, message: str, *args: object) -> None:
        """Print nothing."""


def make_app(data: RunData) -> dash.Dash:
    """The explorer of a run as a Dash app; nothing listens yet."""
    app = dash.Dash(
        "relation_neurons.explorer",
        assets_folder=str(Path(__file__).parent / "assets"),
        title="Explore relation neurons",
        update_title="",
        serve_locally=True,
        index_string=INDEX.replace("CARDS", cards_css()),
    )
    logging.getLogger("relation_neurons.explorer").setLevel(logging.WARNING)
    app.layout = page(data)
    connect(app, data)

    @app.server.before_request
    def only_this_machine() -> None:
        sender = flask.request.headers.get("Origin", "//" + flask.request.host)
        if {urlsplit("//" + flask.request.host).hostname, urlsplit(sender).hostname} - {*NAMES}:
            flask.abort(403, "The explorer answers this machine alone.")

    @app.server.after_request
    def load_nothing_else(response: flask.Response) -> flask.Response:
        response.headers["Content-Security-Policy"] = POLICY
        response.headers["Referrer-Policy"] = "no-referrer"
        response.headers["X-Content-Type-Options"] = "nosniff"
        return response

    return app


def reserve(port: int) -> socket.socket:
    """Take a port of the loopback interface, before anything that takes long; 0 takes any that is free.

    Raises:
        RelationNeuronsError: It is taken, or cannot be used.
    """
    if not 0 <= port <= 65535:
        raise refuse(f"--port is {port}", expected="0 to 65535; 0 takes any that is free")
    taken = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        taken.bind((HOST, port))
        taken.listen()
    except OSError as error:
        taken.close()
        do = "end the program that has it, or pass another --port, such as 0 for any that is free"
        raise refuse(f"Port {port} cannot be used ({reason(error)})", do=do) from error
    return taken


def make_explorer(data: RunData, reserved: socket.socket) -> BaseWSGIServer:
    """A server of the explorer on a port from `reserve`; `serve_forever` starts it."""
    app, (host, port) = make_app(data), reserved.getsockname()
    return make_server(host, port, app.server, threaded=True, request_handler=Quiet, fd=reserved.fileno())


def serve(data: RunData, reserved: socket.socket, *, browser: bool, say: Callable[[str], None]) -> None:
    """Serve until Ctrl-C.

    Args:
        data: The run.
        reserved: From `reserve`.
        browser: Whether to open the page.
        say: Takes the address.
    """
    with reserved:
        server = make_explorer(data, reserved)
        address = f"http://{HOST}:{server.port}/"
        say(f"Explore {data.run.path} at {address} (Ctrl-C ends)")
        if browser:
            webbrowser.open(address)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            say("Ended.")
        finally:
            server.server_close()
