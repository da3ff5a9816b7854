"""Fine-tuning: heads, recipes, decoders, metrics, checkpoints and their lineage."""
