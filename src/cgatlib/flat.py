"""Parameters that lie end to end in one vector: an optimiser, a norm or a mean takes one call, not one for each.

A laptop's network has some sixty parameters of a few hundred numbers: the calls would cost more than the arithmetic.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn


class Flat:
    """Parameters whose memory lies in `vector`, (numbers,); what is done to the vector is done to them."""

    def __init__(self, parameters: Iterable[nn.Parameter]) -> None:
        self.parameters = list(parameters)
        self.vector = nn.Parameter(torch.cat([parameter.detach().flatten() for parameter in self.parameters]))
        for parameter, part in zip(self.parameters, self.split(self.vector.detach()), strict=True):
            parameter.data = part

    def split(self, vector: Tensor) -> list[Tensor]:
        """A vector like `vector` in parts with the shapes of the parameters."""
        parts = vector.split([parameter.numel() for parameter in self.parameters])
        return [part.view_as(parameter) for part, parameter in zip(parts, self.parameters, strict=True)]

    def take_gradients(self) -> None:
        """Move the gradients of the parameters, zero where one has none, to the vector."""
        gradients = [p.new_zeros(p.shape) if p.grad is None else p.grad for p in self.parameters]
        self.vector.grad = torch.cat([gradient.flatten() for gradient in gradients])
        for parameter in self.parameters:
            parameter.grad = None


class FlatAdamW(torch.optim.AdamW):
    """AdamW on one vector for each group of parameters; its state is stored like that of AdamW on the parameters."""

    def __init__(self, groups: Sequence[dict[str, Any]], **options: Any) -> None:
        self.flat = [Flat(group["params"]) for group in groups]
        vectors = [group | {"params": [flat.vector]} for group, flat in zip(groups, self.flat, strict=True)]
        super().__init__(vectors, fused=True, **options)

    def take_gradients(self, longest: float | None) -> None:
        """To be called between the backward pass and the step; gradients of a norm above `longest` are shortened."""
        for flat in self.flat:
            flat.take_gradients()
        if longest is not None:
            nn.utils.clip_grad_norm_([flat.vector for flat in self.flat], longest, foreach=False)

    def release(self) -> None:
        """Give every parameter memory of its own again."""
        for parameter in (parameter for flat in self.flat for parameter in flat.parameters):
            parameter.data = parameter.data.clone()

    def state_dict(self) -> dict[str, Any]:
        """With an entry for every parameter, in the order of the groups."""
        whole = super().state_dict()
        state: dict[int, dict[str, Tensor]] = {}
        groups = []
        for place, (flat, group) in enumerate(zip(self.flat, whole["param_groups"], strict=True)):
            first = len(state)
            each = {name: _parts(flat, value) for name, value in whole["state"].get(place, {}).items()}
            state |= {first + i: {name: each[name][i] for name in each} for i in range(len(flat.parameters))}
            groups.append(group | {"params": list(range(first, len(state)))})
        return {"state": state, "param_groups": groups}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Inverse of `state_dict`."""
        state, groups = {}, []
        for place, group in enumerate(state_dict["param_groups"]):
            each = [state_dict["state"][i] for i in group["params"]]
            state[place] = {name: _whole([part[name] for part in each]) for name in each[0]}
            groups.append(group | {"params": [place]})
        super().load_state_dict({"state": state, "param_groups": groups})


def _parts(flat: Flat, value: Tensor) -> list[Tensor]:
    return flat.split(value) if value.ndim else [value.clone() for _ in flat.parameters]  # the number of steps


def _whole(parts: list[Tensor]) -> Tensor:
    return torch.cat([part.flatten() for part in parts]) if parts[0].ndim else parts[0]
