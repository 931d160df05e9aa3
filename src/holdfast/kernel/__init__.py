"""Words everyone shares: errors, ids, clock, money, tokens, tenant, settings, measures. Standard library only."""
