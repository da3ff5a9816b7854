"""Tasks: what each makes of a corpus, its head, its loss, its predictions and their scores."""
