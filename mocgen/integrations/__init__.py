"""Mixture of Contexts in models of other libraries."""
