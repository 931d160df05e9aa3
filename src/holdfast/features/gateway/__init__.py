"""One call from its first byte to its last: who asks, whether it is new, when and where it goes, what it cost."""
