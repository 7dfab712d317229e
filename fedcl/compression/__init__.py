"""Compressors of vectors: one file each. Which of them a run uses is the channel's affair."""
