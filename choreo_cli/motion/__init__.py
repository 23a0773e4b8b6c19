"""Motion: resampling onto the frame clock and the causal model inputs of the body."""
