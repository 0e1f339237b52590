"""Training: the synthetic world, data, sparsification schedule, loops."""
