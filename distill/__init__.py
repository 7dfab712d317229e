"""Dataset distillation: a labelled data set in, a synthetic set a thousand times smaller out.

>>> import torch
>>> from distill.condenser import Task, condense, even_counts
>>> from distill.coresets import KMeans
>>> from distill.images import LabelledImages, Normalisation
>>> images = torch.rand(40, 1, 8, 8, generator=torch.Generator().manual_seed(0))
>>> real = LabelledImages(images, torch.arange(40) % 4, num_classes=4)
>>> task = Task(real, even_counts(real, 2), Normalisation([0.0], [1.0]), seed=0)
>>> small = condense(KMeans(), task)
>>> len(small), small.storage_bytes("uint8")
(8, 520)
"""
