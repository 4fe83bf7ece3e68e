"""The sampled protocol: sentences with acceptability labels, and responses drawn from the model."""
