"""The Mixture-of-Contexts diffusion transformer and its context memory."""
