"""What analyses return: records, measures, tables, pages, files, and results kept in a lake."""
