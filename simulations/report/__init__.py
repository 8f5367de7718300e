"""What a run has shown: one result, as tables, pictures, a page and files for notebooks."""
