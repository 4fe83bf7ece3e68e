"""Parts of ``compare.py``.

methods    the recipes and schedules that are compared
natural    alternation by natural gradient in the network's parameters
outcomes   trains them after one SFT, and what each reached and paid
summary    the table and the figure
"""
