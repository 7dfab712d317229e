"""How a memory keeps its images: one file a store."""
