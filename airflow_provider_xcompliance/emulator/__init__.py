"""A stand-in X API: both wire flows, a clock of its own, and faults on demand."""
