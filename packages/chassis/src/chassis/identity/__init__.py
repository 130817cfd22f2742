"""Who calls: tokens, the authority that signs them, and what it has revoked."""
