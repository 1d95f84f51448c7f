"""The text encoder against transformers on the same random weights."""

import pytest
import torch
from transformers import T5Config, T5EncoderModel

from mochi_aot.compiler.reference.programs import EncodeText


@pytest.fixture
def pair(config):
    """transformers' own model, as T5 v1.1 configures it, and the program with its weights."""
    text = config.text
    model = T5EncoderModel(
        T5Config(
            vocab_size=text.vocab_size,
            d_model=text.d_model,
            d_kv=text.d_kv,
            d_ff=text.d_ff,
            num_layers=text.num_layers,
            num_heads=text.num_heads,
            feed_forward_proj="gated-gelu",
        )
    ).eval()
    for parameter in model.parameters():
        parameter += 0.1 * torch.randn_like(parameter)
    program = EncodeText(config)
    names = {f"text.{name}": w for name, w in model.state_dict().items() if name != "encoder.embed_tokens.weight"}
    program.load_state_dict(names)
    return model, program


@pytest.mark.parametrize("tokens", [0, 1, 19, 256])
def test_equals_transformers(config, pair, relative_error, tokens):
    model, program = pair
    ids = torch.randint(0, config.text.vocab_size, (1, config.text_length), dtype=torch.int32)
    mask = torch.arange(config.text_length)[None] < tokens
    expected = model(ids, attention_mask=mask)[0]
    # the padding's embeddings too: the same operations in the same order, but for GELU's formula
    assert relative_error(program(ids, mask), expected) < 1e-5


def test_bfloat16_follows_transformers(config, pair):
    model, program = pair
    half = EncodeText(config, torch.bfloat16)
    half.load_state_dict(program.state_dict())
    ids = torch.randint(0, config.text.vocab_size, (1, config.text_length), dtype=torch.int32)
    mask = torch.arange(config.text_length)[None] < 19
    actual = half(ids, mask)
    assert actual.dtype is torch.bfloat16
    pairs = torch.stack([actual.float().flatten(), model(ids, attention_mask=mask)[0].flatten()])
    assert torch.corrcoef(pairs)[0, 1] > 0.999
