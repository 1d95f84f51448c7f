"""LoRAs: low-rank changes of the transformer's matrices, read from the files that people have, made part of weights."""
