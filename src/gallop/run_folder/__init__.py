"""A run and its folder: prepared, recorded, found again; names, formats and whole writes."""
