"""The `layerlake` command: one module per command group, each a few lines over a public function."""
