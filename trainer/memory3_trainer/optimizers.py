"""The optimisers of all stages.

Source: paper §7: AdamW, weight decay 0.1. Here the matrices of the blocks are trained with Muon
unless asked otherwise (docs/adr/0008-muon.md).
"""

from __future__ import annotations

from typing import Literal

import torch

from memory3.model.transformer import Transformer

OptimizerName = Literal["muon", "adamw"]


def make_optimizers(
    model: Transformer, rate: float, name: OptimizerName = "muon"
) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the blocks and AdamW for embeddings and norms, or AdamW for all.

    Args:
        model: Its parameters are optimised.
        rate: Learning rate of the stable part.
        name: ``muon`` or ``adamw``.
    """
    named = list(model.named_parameters())
    matrices = [p for name, p in named if p.dim() == 2 and name.startswith("blocks.")]
    others = [p for name, p in named if p.dim() != 2 or not name.startswith("blocks.")]
    if name == "adamw":
        groups = [
            {"params": matrices, "weight_decay": 0.1},
            {"params": others, "weight_decay": 0.0},
        ]
        return [torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.95), fused=True)]
    return [
        torch.optim.Muon(matrices, lr=rate, weight_decay=0.1, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, lr=rate, betas=(0.9, 0.95), weight_decay=0.0, fused=True),
    ]
