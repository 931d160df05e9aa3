"""The listening sockets, bound before anything else starts, so that a taken port is said at once."""

import socket
from contextlib import AsyncExitStack

from holdfast.edge.server.settings import ServerSettings
from holdfast.kernel.errors import SettingsError


def listening(server: ServerSettings, stack: AsyncExitStack) -> list[socket.socket]:
    """The model API's socket, then the one for /api where it is apart."""
    addresses = [(server.host, server.port)]
    if server.api_port is not None:
        addresses.append((server.api_host or server.host, server.api_port))
    listeners = []
    for host, port in addresses:
        listener = bound(host, port, server.reuse_port)
        stack.callback(listener.close)
        listeners.append(listener)
    return listeners


def bound(host: str, port: int, reuse_port: bool) -> socket.socket:
    """SettingsError: the address cannot be listened on."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if reuse_port:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise SettingsError(
            f"Cannot listen on {host}:{port}: {error.strerror}. Choose another with --port or server.port."
        ) from error
    listener.setblocking(False)
    return listener
