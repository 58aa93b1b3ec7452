"""What a run reports: console, TensorBoard, history and plots."""
