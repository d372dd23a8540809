"""What a person looks at: figures, tables, progress, films."""
