"""Task heads: the layers trained on top of an encoder."""
