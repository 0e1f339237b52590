"""Triton kernels; imported only when they are to run, since not every machine has Triton."""
