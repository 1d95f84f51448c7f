"""What cards can do at most, by NVIDIA's data sheets, without sparsity."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Card:
    """`flops` a second of dense bfloat16 products that are added up in float32; `source` says where that is from."""

    name: str
    flops: float
    source: str


# By what torch calls a card: the first name that is part of that counts.
CARDS = (
    Card("B200", 2250e12, "NVIDIA DGX B200 data sheet: 36 PFLOPS of 8 cards with sparsity in FP16/BF16"),
    Card("GH200", 990e12, "NVIDIA GH200 data sheet: 1979 TFLOPS with sparsity"),
    Card("H200 NVL", 835.5e12, "NVIDIA H200 data sheet: 1671 TFLOPS with sparsity"),
    Card("H200", 989.5e12, "NVIDIA H200 data sheet: 1979 TFLOPS with sparsity"),
    Card("H100 NVL", 835.5e12, "NVIDIA H100 data sheet: 1671 TFLOPS with sparsity"),
    Card("H100 PCIe", 756e12, "NVIDIA H100 PCIe product brief: 756 TFLOPS"),
    Card("H100", 989.4e12, "NVIDIA H100 Tensor Core GPU architecture, H100 SXM5: 989.4 TFLOPS"),
    Card("A100", 312e12, "NVIDIA A100 data sheet: 312 TFLOPS"),
    Card("A10G", 70e12, "NVIDIA A10G data sheet: 70 TFLOPS"),
    Card("A10", 125e12, "NVIDIA A10 data sheet: 125 TFLOPS"),
    Card("L40S", 362e12, "NVIDIA L40S data sheet: 362 TFLOPS"),
    Card("L40", 181e12, "NVIDIA L40 data sheet: 181 TFLOPS"),
    Card("L4", 121e12, "NVIDIA L4 data sheet: 242 TFLOPS with sparsity"),
    Card("RTX A6000", 154.8e12, "NVIDIA Ampere GA102 architecture, RTX A6000: 154.8 TFLOPS"),
    Card("RTX 4090", 165.2e12, "NVIDIA Ada GPU architecture, RTX 4090: 165.2 TFLOPS with FP32 accumulation"),
    Card("RTX 3090", 71e12, "NVIDIA Ampere GA102 architecture, RTX 3090: 71 TFLOPS with FP32 accumulation"),
)


def card_named(name: str) -> Card | None:
    """Return the card that torch.cuda.get_device_name calls `name`, None for one that is not in the table."""
    return next((card for card in CARDS if card.name in name), None)
