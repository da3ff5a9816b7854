"""Results of analyses: records, measures, tables, pages, files, and results cached in a lake."""
