"""A fault at each step of each job. The steps are found by tracing a run; ``python -m tests.faults --help``."""
