"""The production layer for AI features: one program between an application and its models."""

__version__ = "0.1.0"

__all__ = ["__version__"]
