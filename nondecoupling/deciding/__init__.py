"""What decides a statement: random worlds, an adversary, balls on one world, balls on a whole box."""
