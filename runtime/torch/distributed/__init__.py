"""A mesh whose devices are processes: rank r of torch.distributed is device r. Rank 0 leads, the others follow."""
