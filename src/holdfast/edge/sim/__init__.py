"""The scripted model as a real HTTP server."""
