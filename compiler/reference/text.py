"""The text encoder: transformers' own T5, with the parts exchanged that would not trace as whole operations."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from mochi_aot.compiler.reference import ops
from mochi_aot.compiler.reference.config import TextConfig
from mochi_aot.compiler.reference.dtypes import parameters_in

if TYPE_CHECKING:
    from transformers import T5EncoderModel


class RMSNorm(nn.Module):
    """T5's layer norm, which subtracts no mean."""

    def __init__(self, weight: nn.Parameter, eps: float) -> None:
        super().__init__()
        self.weight, self.eps = weight, eps

    def forward(self, x: Tensor) -> Tensor:
        return ops.rms_norm(x, self.weight, self.eps)


def build_text_encoder(config: TextConfig, dtype: torch.dtype = torch.float32) -> T5EncoderModel:
    """Return a T5 v1.1 encoder without dropout; its state dict has the published names, only `shared` as embedding."""
    # Takes twice as long to import as torch: a compile that takes over what was traced before does without.
    from transformers import T5Config, T5EncoderModel
    from transformers.models.t5.modeling_t5 import T5LayerNorm

    t5 = T5Config(
        vocab_size=config.vocab_size,
        d_model=config.d_model,
        d_kv=config.d_kv,
        d_ff=config.d_ff,
        num_layers=config.num_layers,
        num_heads=config.num_heads,
        relative_attention_num_buckets=config.relative_attention_num_buckets,
        relative_attention_max_distance=config.relative_attention_max_distance,
        layer_norm_epsilon=config.layer_norm_epsilon,
        feed_forward_proj="gated-gelu_pytorch_tanh",
    )
    with parameters_in(dtype):
        model = T5EncoderModel(t5)
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if isinstance(child, T5LayerNorm):
                setattr(parent, name, RMSNorm(child.weight, child.variance_epsilon))
            elif isinstance(child, nn.Dropout):
                setattr(parent, name, nn.Identity())
    del model.encoder.embed_tokens  # the same tensor as `shared`
    return model.eval()


def encode_text(model: T5EncoderModel, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
    """Return the embeddings [B, L, D] of ids [B, L]; tokens whose mask (bool [B, L]) is False are not attended."""
    batch, length = input_ids.shape
    embedded = ops.annotate(model.shared(input_ids), "text_tokens")
    attended = attention_mask[:, None, None, :].expand(batch, 1, length, length)
    return model.encoder(inputs_embeds=embedded, attention_mask=attended).last_hidden_state
