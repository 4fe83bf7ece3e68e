"""Prompts and candidate responses that the tests of this folder share."""

PROMPTS = [f"Is {thing} {color}?" for thing in ("snow", "coal") for color in ("white", "black")]
STYLES = (" {}.", " It is {}.", " Answer: {}.")
CANDIDATES = [
    [style.format(word) for style in STYLES for word in ("yes", "no")] for _ in range(len(PROMPTS))
]
