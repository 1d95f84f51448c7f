"""What programs are given when their instructions are compared."""

import numpy as np
import pytest

from mochi_aot.compiler.checkpoint.presets import PRESETS
from mochi_aot.tools.golden.known_inputs import host_inputs
from mochi_aot.tools.training.models import CONFIGS
from tests.runtime.ttnn.on_mesh import program, spec


@pytest.mark.parametrize("tokens", [0, 1, 256])
def test_every_model_has_the_tokens_of_a_known_prompt(tokens: int) -> None:
    text = {name: spec([1, 256]) for name in ("input_ids", "attention_mask")}
    given = host_inputs(program(text, [], {}, []), "encode_text", (tokens, 7))
    smallest = min(config.text.vocab_size for config in (*PRESETS.values(), *CONFIGS.values()))
    assert given["input_ids"].max() < smallest == 256
    np.testing.assert_array_equal(given["attention_mask"], [[True] * tokens + [False] * (256 - tokens)])
    np.testing.assert_array_equal(given["input_ids"] >= 3, given["attention_mask"])  # 0 to 2 are special
