"""A run's model as the checkpoint that comes with the package: weights, settings, and a card with what was measured."""

from pathlib import Path

import numpy as np

from mochi_aot.tools.training.evaluate import accuracy, generate, held_out_prompts, reconstruction_psnr
from mochi_aot.tools.training.export import open_models, write_models
from mochi_aot.tools.training.models import Models
from mochi_aot.tools.training.picture import frame_sheet
from mochi_aot.tools.training.sampling import Sampler
from mochi_aot.tools.training.settings import Settings
from mochi_aot.tools.training.shipped import CARD

TRAINING = "training.json"  # the run's settings; settings.json would make the folder a training run
ACROSS = 2  # videos side by side in the picture of several
FRAMES = 5  # of each
LEVEL = 4  # of 256 brightnesses every fourth is kept, which halves the file
# All colours, shapes and motions, some in words that training has for them. The seeds of their noise count from 0.
SHEET_PROMPTS = (
    "a red circle moves left across a dark background",
    "a green square spins on a light background",
    "an orange triangle rises slowly against a dark striped background",
    "a cyan ring grows over a gray background",
    "a white square slides to the right across a gray graded background",
    "a yellow disc bounces on a dark background",
    "a purple triangle shrinks against a light background with stripes",
    "a blue hoop drifts downward over a light graded background",
)

_CARD = """\
---
license: apache-2.0
pipeline_tag: text-to-video
---
# Moving shapes: a Mochi of {millions:.1f} million parameters

The architecture of Genmo's Mochi 1 with small sizes, trained from nothing by `mochi-train` of mochi-aot on clips that
code draws. It is for demos and for tests of compilers: videos of 19 frames of 64x96 that show one shape. No weights or
data of Genmo's are in it.

- **Prompts**: a circle, square, triangle or ring, in red, orange, yellow, green, cyan, blue, purple or white, that
  moves left, right, up or down, grows, shrinks, turns or bounces; small or large, slowly or quickly; on a dark, gray or
  light background, plain, graded or striped: "{example}".
- **Data**: clips and captions of the grammar in `tools/training/grammar.py`, drawn anew for every step. One combination
  of colour, shape and motion in ten is never trained on.
- **Training**: `training.json` has all settings: {vae_steps} steps of {vae_batch} clips for the VAE, {dit_steps} of
  {dit_batch} for text encoder and transformer, by flow matching, captions left out one time in ten. The weights are
  averages over the last steps.
- **Files**: Genmo's layout, bfloat16; a T5 encoder with a tokenizer of the grammar's words beside it.

## Measured
With these weights, computed in float32, on {prompts} prompts of combinations that training never shows, with {steps}
steps at guidance scale {guidance_scale:g}. What a video shows is measured on its frames
(`tools/training/semantics.py`).

| right | share |
|---|---|
| colour | {colour:.1%} |
| shape | {shape:.1%} |
| motion | {motion:.1%} |
| direction, where one is named | {direction:.1%} |
| colour, shape and motion | {all:.1%} |

The VAE gives {clips} held-out clips back at a PSNR of {psnr:.1f} dB.

## Limits
One shape and the words above: other words mean nothing to it. Other sizes and numbers of frames were not trained. Edges
are soft, and small rings that move may lose their holes, in the VAE already.

## License
Apache-2.0.
"""


def release(
    models: Models, settings: Settings, folder: Path, prompts: int, clips: int, steps: int, scale: float, replace: bool
) -> dict[str, float]:
    """Write `models` to `folder` in Genmo's layout, with settings and card, and return what the card says was measured.

    Measured on held-out prompts and clips, so many of each; videos with `steps` steps at guidance scale `scale`.
    Raises CheckpointError if `folder` is there and is not to be replaced.
    """
    write_models(models, folder, "genmo", replace)
    written = open_models(folder, "cpu")  # rounded to bfloat16, unlike the run's
    asked = held_out_prompts(prompts)
    measured = accuracy(asked, generate(written, asked, steps, scale))
    measured |= {"prompts": prompts, "steps": steps, "guidance_scale": scale}
    measured |= {"clips": clips, "psnr": reconstruction_psnr(written, clips)}
    settings.write(folder / TRAINING)
    (folder / CARD).write_text(card(models, settings, measured))
    return measured


def contact_sheet(models: Models, steps: int, scale: float) -> np.ndarray:
    """Frames of videos of SHEET_PROMPTS, two videos side by side, prompt after prompt: uint8 [rows, columns, 3]."""
    sampler = Sampler(models.config, models.text, models.dit, models.decoder)
    videos = sampler.videos(SHEET_PROMPTS, range(len(SHEET_PROMPTS)), steps, scale)
    sheet = np.concatenate([frame_sheet(videos[first::ACROSS], FRAMES) for first in range(ACROSS)], axis=1)
    return sheet | (LEVEL - 1)


def card(models: Models, settings: Settings, measured: dict[str, float]) -> str:
    """Return the model card, Markdown."""
    sizes = {"vae_steps": settings.vae.steps, "vae_batch": settings.vae.batch}
    sizes |= {"dit_steps": settings.dit.steps, "dit_batch": settings.dit.batch}
    count = sum(parameter.numel() for parameter in models.parameters().values())
    return _CARD.format(millions=count / 1e6, example=SHEET_PROMPTS[0], **sizes, **measured)
