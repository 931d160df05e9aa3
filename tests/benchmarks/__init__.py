"""Figures, never assertions on time: what is printed is a ratio to a peer in the same run."""
