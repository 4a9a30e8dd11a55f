"""Composition root of the portal: settings, application, server."""

from __future__ import annotations

import argparse
import sys

import uvicorn

from services.kit import hospitals, log, tracing
from services.kit.errors import Invalid
from services.kit.metrics import Metrics
from services.kit.settings import PlatformSettings, TlsSettings, read_settings
from services.kit.tls.identity import identity
from services.portal.settings import PortalSettings
from services.portal.web import make_app


def main() -> None:
    """Serve pages until told to stop."""
    parser = argparse.ArgumentParser(prog="services.portal.main", description="The portal of PharmaLoop.")
    parser.add_argument("--role", choices=["api", "all"], default="all", help="the portal has one role")
    parser.parse_args()
    log.configure("portal")
    platform = PlatformSettings()
    endpoints = platform.endpoints
    if not endpoints:
        sys.exit(
            "portal: PHARMALOOP_ENDPOINTS does not say where the services listen (JSON, name to host:port)"
        )
    try:
        if (tls := read_settings(TlsSettings)).on:
            identity(tls)
        tracing.begin("portal", "0", "", platform)
    except Invalid as error:
        sys.exit(f"portal: {error.description}")
    settings, metrics = PortalSettings(), Metrics("portal")
    try:
        metrics.serve(settings.metrics_host, settings.metrics_port)
    except OSError as error:
        where = f"{settings.metrics_host}:{settings.metrics_port}"
        sys.exit(
            f"portal: cannot listen on {where} ({error.strerror}): stop the program that holds the port, or "
            "set PHARMALOOP_PORTAL_METRICS_PORT to another"
        )
    uvicorn.run(
        make_app(endpoints, settings, metrics, next(iter(platform.sites), hospitals.FIRST)),
        host=settings.http_host,
        port=settings.http_port,
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=2,
    )
    tracing.close()


if __name__ == "__main__":
    main()
