"""The statements, one per file. ``catalog.statements()`` finds them; ``_template.py`` is to copy."""
