"""The gated attention unit over keypoint tokens, and its norm (RTMPose, arXiv 2303.07399; FLASH, arXiv 2202.10447)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

SCALE_NORM_EPS = 1e-5


class ScaleNorm(nn.Module):
    """y = x / max(rms(x), 1e-5) * g over the last axis of length `dim`, with one scalar gain `g`."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.scale = dim**-0.5
        self.g = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        rms = torch.linalg.norm(x, dim=-1, keepdim=True) * self.scale
        return x / rms.clamp(min=SCALE_NORM_EPS) * self.g


class Scale(nn.Module):
    """A learned factor per feature."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale


class GatedAttention(nn.Module):
    """Self-attention over tokens (N, T, dim) -> (N, T, dim): squared ReLU, no softmax, not divided by T.

    u, v, base = split(SiLU(uv(norm(x)))); q, k = base * gamma + beta;
    out = res_scale * x + o(u * (relu(q k' / sqrt(s))^2 v)). `dropout` acts on the attention matrix.
    """

    def __init__(self, dim: int, *, expansion: int = 2, key_dim: int = 128, dropout: float = 0.0) -> None:
        super().__init__()
        self.hidden, self.key_dim = dim * expansion, key_dim
        self.gamma = nn.Parameter(torch.rand(2, key_dim))
        self.beta = nn.Parameter(torch.rand(2, key_dim))
        self.o = nn.Linear(self.hidden, dim, bias=False)
        self.uv = nn.Linear(dim, 2 * self.hidden + key_dim, bias=False)
        self.ln = ScaleNorm(dim)
        self.act_fn = nn.SiLU()
        self.res_scale = Scale(dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        uv = self.act_fn(self.uv(self.ln(x)))
        u, v, base = torch.split(uv, [self.hidden, self.hidden, self.key_dim], dim=-1)
        q, k = torch.unbind(base.unsqueeze(2) * self.gamma + self.beta, dim=2)
        attention = torch.relu(torch.bmm(q, k.transpose(1, 2)) / self.key_dim**0.5).square()
        return self.res_scale(x) + self.o(u * torch.bmm(self.dropout(attention), v))
