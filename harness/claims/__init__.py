"""Published numbers and claims as data, and the verdict that a measurement gives on a claim."""
