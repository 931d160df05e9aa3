"""What features may ask of engines and upstreams: one contract a file, its promises and limits on it."""
