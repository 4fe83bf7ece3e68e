"""What is stated: the statements, the worlds that they quantify over, and how far each is assured."""
