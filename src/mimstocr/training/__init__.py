"""The one training loop, its model, batches and checkpoints."""
