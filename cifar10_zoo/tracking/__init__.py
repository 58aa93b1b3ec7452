"""What a run reports: console output, TensorBoard summaries, history files and plots."""
