"""What perdure costs, beside the bare work and beside others: ``python -m benchmarks``. Ratios, interleaved."""
