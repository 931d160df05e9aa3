"""Tests of the tools: clients of the public API."""
