"""What is shown of a trained run: figures, tables, pages."""
