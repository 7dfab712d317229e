"""Dataset distillation: a labelled data set in, a synthetic set a thousand times smaller out."""
