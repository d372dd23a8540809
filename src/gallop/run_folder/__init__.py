"""Run folders: names, formats, atomic writes, resume state, records, consent and lookup."""
