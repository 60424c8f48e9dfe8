"""Settings of transform, read once from `ONEBLOCK_*` and `ONEBLOCK_TRANSFORM_*`."""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import Field, SecretStr
from pydantic_settings import SettingsConfigDict

from libs.common.settings import CommonSettings
from services.transform.plan import MB


class Settings(CommonSettings):
    """Beside the common ones; `services/transform/README.md` lists them."""

    model_config = SettingsConfigDict(env_prefix="ONEBLOCK_", frozen=True, extra="ignore")

    transform_runs: int = Field(4, ge=1)  # runs worked on at once
    transform_workers: int = Field(default_factory=lambda: max(1, min(4, os.cpu_count() or 1)))
    local_max_bytes: int = Field(128 * MB, ge=0)  # engine auto: more goes to Ray
    split_bytes: int = Field(64 * MB, ge=1)
    head_bytes: int = Field(4 * MB, ge=1)
    worker_tries: int = Field(3, ge=1)  # of a task whose worker dies
    ray_address: str = ""  # ray://host:port; empty: no Ray, everything runs on the local lane
    ray_token: SecretStr | None = None  # neither: RAY_AUTH_MODE and RAY_AUTH_TOKEN, if there
    ray_token_file: Path | None = None  # read whenever a connection is made
    ray_patience: float = Field(60.0, gt=0)  # seconds that a head may be gone
    ray_linger: float = Field(300.0, gt=0)  # seconds that a finished run's actor waits for us
    run_deadline: float = Field(6 * 3600.0, gt=0)  # seconds that a run may take on Ray

    def token(self) -> str | None:
        """The cluster's token, if one is configured and there yet."""
        if self.ray_token is not None:
            return self.ray_token.get_secret_value()
        file = self.ray_token_file
        return file.read_text().strip() if file is not None and file.exists() else None
