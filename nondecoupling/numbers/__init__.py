"""The number systems in which every formula can be evaluated, and what each of them is made of."""
