"""Generated data: seeded, free of licences, with annotations that are correct by construction."""
