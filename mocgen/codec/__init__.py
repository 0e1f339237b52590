"""Frames ↔ latents."""
