"""The production layer for AI features: one program between an application and its models."""

__all__: list[str] = []
