"""What the portal needs to know."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from services.kit.settings import PREFIX


class PortalSettings(BaseSettings):
    """Read from PHARMALOOP_PORTAL_*; where the services listen stands in PHARMALOOP_ENDPOINTS."""

    model_config = SettingsConfigDict(env_prefix=f"{PREFIX}PORTAL_", frozen=True, extra="ignore")

    http_host: str = "127.0.0.1"
    http_port: int = Field(default=8080, ge=0, le=65535, description="port for browsers")
    metrics_host: str = "127.0.0.1"
    metrics_port: int = Field(default=0, ge=0, le=65535, description="port for the collector of metrics")
    answer_seconds: float = Field(default=5.0, gt=0, description="how long a page waits for one service")
    share_seconds: float = Field(
        default=0.5, ge=0, description="how long one answer serves all pages that ask the same"
    )
