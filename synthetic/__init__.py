"""Data that is generated: seeded, licensed by nobody, and right by construction."""
