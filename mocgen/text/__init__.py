"""Captions → word ids."""
