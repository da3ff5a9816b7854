"""How things move and run: corpora, tokenization, models, extraction, passes."""
