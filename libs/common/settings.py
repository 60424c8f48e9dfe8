"""Settings that every service reads once from `ONEBLOCK_*` variables."""

from __future__ import annotations

from pathlib import Path

from pydantic import SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class CommonSettings(BaseSettings):
    """Frozen; each service extends it with its own."""

    model_config = SettingsConfigDict(env_prefix="ONEBLOCK_", frozen=True, extra="ignore")

    nats_url: str = "nats://127.0.0.1:4222"
    nats_token: SecretStr | None = None
    warehouse: str = ""  # file:///… or s3://…; required by the services that touch data
    host: str = "127.0.0.1"
    port: int = 0  # 0: any free port, told in the log
    tokens_file: Path | None = None  # hashed API tokens; needed to listen beyond loopback
    cors_origins: str = ""  # comma-separated origins whose pages may call from a browser
    log_level: str = "info"
    log_json: bool | None = None  # None: JSON unless on a terminal
    lease_ttl: float = 30.0  # seconds after which a run whose worker died is taken over
    stop_timeout: float = 25.0  # seconds that a graceful stop may take
