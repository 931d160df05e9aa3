"""Who answers: one file a provider's dialect, and the pooled HTTP client they stand on."""
