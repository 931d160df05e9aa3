"""Whom an upstream's TLS trusts: the system's authorities or its own bundle, host names checked, TLS 1.2 or later."""

import ssl
from pathlib import Path

from holdfast.kernel.errors import SettingsError
from holdfast.upstreams.settings import UpstreamSettings


def make_context(upstream: str, settings: UpstreamSettings) -> ssl.SSLContext:
    """Raises SettingsError naming the file that cannot be used."""
    for setting, path in (
        ("ca_bundle", settings.ca_bundle),
        ("client_certificate", settings.client_certificate),
        ("client_key", settings.client_key),
    ):
        if path is not None and not Path(path).is_file():
            raise SettingsError(f"upstreams.{upstream}.{setting}: there is no file {path}")
    try:
        context = ssl.create_default_context(cafile=settings.ca_bundle)
    except OSError as error:
        raise SettingsError(
            f"upstreams.{upstream}.ca_bundle: {settings.ca_bundle} holds no PEM certificates ({error})"
        ) from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    if settings.client_certificate is not None:
        try:
            context.load_cert_chain(settings.client_certificate, settings.client_key, password=_no_password)
        except OSError as error:
            raise SettingsError(
                f"upstreams.{upstream}.client_certificate: {settings.client_certificate} and its key cannot be used ({error}); "
                "both must be PEM, the key unencrypted and the certificate's own"
            ) from None
    elif settings.client_key is not None:
        raise SettingsError(f"upstreams.{upstream}.client_key needs upstreams.{upstream}.client_certificate beside it")
    return context


def _no_password() -> str:
    """An encrypted key must fail, not ask at the terminal."""
    return ""
