"""The version of this release, as pyproject.toml says it too."""

VERSION = "0.1.0"
