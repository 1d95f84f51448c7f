"""From a torch module to a program: torch.export under fake tensors, then one handler an ATen op."""
