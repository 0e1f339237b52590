"""What each part of Mixture of Contexts is good for: small models that learn to remember without it."""
