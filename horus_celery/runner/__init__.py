"""What a runner does with one job: the claim, the end, and how they are told."""
