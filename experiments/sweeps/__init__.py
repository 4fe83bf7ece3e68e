"""Parts of ``sweep.py``.

grid      the trials of a sweep, as the product of its axes
running   trials on Ray, what became of each, and going on after a stop
summary   one table and one figure
"""
