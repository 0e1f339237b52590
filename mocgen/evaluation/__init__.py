"""How well a model remembers and follows captions, measured against the exact synthetic world."""
