"""Figures, tables and a page of what `unlearn` has measured. The command `unlearn-report` is in command.py; README.md lists it."""
