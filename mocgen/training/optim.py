"""Optimizers of a run: Muon for hidden matrices, AdamW for everything else, and an average of weights."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .sharding import split_like, whole


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """Learning rates are peaks: linear warm-up, constant, then linear to zero from `decay_from`."""

    muon_lr: float = 0.02
    adamw_lr: float = 2e-3
    warmup: int = 50  # steps
    decay_from: float = 0.5  # fraction of the run
    newton_schulz_steps: int = 3
    clip: float = 1.0  # largest norm of the gradient
    ema: float = 0.998  # decay of the average of weights, per step


def learning_rate_factor(step: int, total: int, config: OptimConfig) -> float:
    """Multiplier of the peak learning rate at a step."""
    warm = min(1.0, (step + 1) / max(1, config.warmup))
    remaining = (total - step) / max(1.0, total * (1 - config.decay_from))
    return warm * min(1.0, remaining)


class Optimizers:
    """Muon (Jordan 2024) and AdamW over one module, stepped together with gradient clipping."""

    def __init__(self, module: nn.Module, matrices: Iterable[str], config: OptimConfig) -> None:
        """matrices: names of the 2-D parameters that Muon updates, if any."""
        self.config = config
        self._parameters = {name: p for name, p in module.named_parameters() if p.requires_grad}
        names = set(matrices)
        muon = [p for name, p in self._parameters.items() if name in names]
        adamw = [p for name, p in self._parameters.items() if name not in names]
        self._optimizers: list[tuple[torch.optim.Optimizer, float]] = []
        if muon:
            steps = config.newton_schulz_steps
            optimizer = torch.optim.Muon(muon, lr=config.muon_lr, weight_decay=0.0, ns_steps=steps)
            self._optimizers.append((optimizer, config.muon_lr))
        if adamw:
            rest = torch.optim.AdamW(adamw, lr=config.adamw_lr, betas=(0.9, 0.98), weight_decay=0.0)
            self._optimizers.append((rest, config.adamw_lr))
        self.average = {name: p.detach().clone() for name, p in self._parameters.items()}

    def step(self, step: int, total: int) -> float:
        """Clip, update, average; returns the norm of the gradient."""
        norm = nn.utils.clip_grad_norm_(self._parameters.values(), self.config.clip)
        factor = learning_rate_factor(step, total, self.config)
        for optimizer, peak in self._optimizers:
            for group in optimizer.param_groups:
                group["lr"] = peak * factor
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        decay = min(self.config.ema, (step + 1) / (step + 10))
        with torch.no_grad():
            for name, average in self.average.items():
                average.lerp_(self._parameters[name], 1 - decay)
        return float(whole(norm))

    def state(self) -> dict[str, Tensor]:
        """Average and optimizer state as flat tensors, for a resumable checkpoint."""
        tensors = {f"average.{name}": value for name, value in self.average.items()}
        for number, (optimizer, _) in enumerate(self._optimizers):
            for index, entries in optimizer.state_dict()["state"].items():
                for key, value in entries.items():
                    tensors[f"optimizer.{number}.{index}.{key}"] = torch.as_tensor(value)
        return tensors

    def load_state(self, tensors: dict[str, Tensor]) -> None:
        """Undo `state`."""
        for name, value in self.average.items():
            value.copy_(split_like(tensors[f"average.{name}"], value))
        for number, (optimizer, _) in enumerate(self._optimizers):
            saved = optimizer.state_dict()
            entries: dict[int, dict[str, Tensor]] = {}
            parameters = [p for group in optimizer.param_groups for p in group["params"]]
            for name, value in tensors.items():
                parts = name.split(".")
                if parts[:2] == ["optimizer", str(number)]:
                    index = int(parts[2])
                    entries.setdefault(index, {})[parts[3]] = split_like(value, parameters[index])
            optimizer.load_state_dict({"state": entries, "param_groups": saved["param_groups"]})
