"""HTTP in, answers out: framing, the credential, errors; what a path means is a feature's verb."""
