"""The production layer for AI features: one program between an application and its models."""

from holdfast.kernel.version import __version__

__all__ = ["__version__"]
