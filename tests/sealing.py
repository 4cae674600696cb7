"""Training sets that were changed, or put together by hand, with checksums that fit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from obiwan.dplearn.files.atomic import file_crc32
from obiwan.dplearn.trainingset.manifest import MANIFEST, SOURCES, manifest_checksum


def seal(directory: Path, **changes: Any) -> None:
    """Change entries of a manifest, and let it vouch for itself and the source table."""
    path = directory / MANIFEST
    manifest = json.loads(path.read_text()) | changes
    if (directory / SOURCES).exists():
        manifest["sources_crc32"] = file_crc32(directory / SOURCES)
    manifest["manifest_crc32"] = manifest_checksum(manifest)
    path.write_text(json.dumps(manifest))
