"""The T5 encoder in Hugging Face layout, which both published layouts use."""

from typing import Any

from mochi_aot.compiler.checkpoint.json_config import JsonConfig
from mochi_aot.compiler.checkpoint.naming import text_shapes
from mochi_aot.compiler.checkpoint.table import Source
from mochi_aot.compiler.reference.config import TextConfig

COMPONENT = "text_encoder"
TIED = "encoder.embed_tokens.weight"  # transformers ties it to shared.weight; a file may hold either or both

_PREFIX = "text."


def text_sources(config: TextConfig) -> list[Source]:
    """Return the tensors of the text encoder; canonical names are its keys behind a prefix."""
    return [
        Source(COMPONENT, key, shape, (name,), TIED if key == "shared.weight" else None)
        for name, shape in text_shapes(config).items()
        for key in [name.removeprefix(_PREFIX)]
    ]


def is_ignored(key: str) -> bool:
    """Return whether a tensor belongs to the decoder half of T5, which Mochi does not use but full T5 checkpoints
    hold."""
    return key.startswith("decoder.") or key == "lm_head.weight"


def read_text_config(config: JsonConfig) -> TextConfig:
    """Return the sizes from T5's config.json. Raise CheckpointError naming the field that does not fit."""
    config.expect("model_type", "t5")
    config.expect("feed_forward_proj", "gated-gelu")
    default = TextConfig()
    return TextConfig(
        vocab_size=config.integer("vocab_size"),
        d_model=config.integer("d_model"),
        d_kv=config.integer("d_kv"),
        num_heads=config.integer("num_heads"),
        num_layers=config.integer("num_layers"),
        d_ff=config.integer("d_ff"),
        relative_attention_num_buckets=config.integer("relative_attention_num_buckets"),
        relative_attention_max_distance=config.integer(
            "relative_attention_max_distance", default.relative_attention_max_distance
        ),
        layer_norm_epsilon=config.number("layer_norm_epsilon", default.layer_norm_epsilon),
    )


def text_fields(config: TextConfig) -> dict[str, Any]:
    """Return the fields of T5's config.json."""
    return {
        "architectures": ["T5EncoderModel"],
        "d_ff": config.d_ff,
        "d_kv": config.d_kv,
        "d_model": config.d_model,
        "decoder_start_token_id": 0,
        "dropout_rate": 0.1,
        "eos_token_id": 1,
        "feed_forward_proj": "gated-gelu",
        "is_encoder_decoder": True,
        "layer_norm_epsilon": config.layer_norm_epsilon,
        "model_type": "t5",
        "num_decoder_layers": config.num_layers,
        "num_heads": config.num_heads,
        "num_layers": config.num_layers,
        "pad_token_id": 0,
        "relative_attention_max_distance": config.relative_attention_max_distance,
        "relative_attention_num_buckets": config.relative_attention_num_buckets,
        "tie_word_embeddings": False,
        "vocab_size": config.vocab_size,
    }
