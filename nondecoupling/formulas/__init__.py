"""The formulas of the theory by theme, each once, over any number system; roots where there is no closed form."""
