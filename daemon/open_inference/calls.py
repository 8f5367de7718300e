"""What is asked of a model in the protocol, and what it answers, however either travels."""

from __future__ import annotations

from dataclasses import dataclass, field

from dreamer.daemon.inference.tensors import Tensor
from dreamer.daemon.surfaces.inference import RunStarted
from dreamer.protocol.errors import InputError
from dreamer.protocol.inference_limits import OIP_TENSORS_MAX

Parameter = bool | int | float | str
Parameters = dict[str, Parameter]

_REFUSED = {
    "sequence_id": "sequences are not kept: send each request by itself",
    "shared_memory_region": "shared memory is not offered: send the tensor in the request",
    "classification": "the classification extension is not offered: ask for the output as it is",
}


@dataclass(frozen=True)
class Call:
    """One inference. ``version`` is empty for the one that the model's name means now."""

    model: str
    version: str
    request_id: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[str, ...]
    parameters: Parameters = field(default_factory=dict)

    def check(self) -> None:
        """Refuse what no model can answer.

        Raises:
            InputError: no input, two of one name, or more tensors than there may be.
        """
        if len(self.inputs) == 1 and len(self.outputs) <= 1:
            return
        for names, what in (
            ([one.name for one in self.inputs], "input"),
            (list(self.outputs), "output"),
        ):
            if len(names) > OIP_TENSORS_MAX:
                raise InputError(f"a request has at most {OIP_TENSORS_MAX} {what}s")
            if len(set(names)) != len(names):
                raise InputError(f"an {what} is named twice")
        if not self.inputs:
            raise InputError("a request needs its inputs: {'inputs': [{'name': …}]}")


@dataclass(frozen=True)
class Answer:
    """What a model gave: one of several where a stream was asked for, ``final`` the last.

    ``started`` says who ran it. Times in seconds.
    """

    model: str
    version: str
    request_id: str
    outputs: tuple[Tensor, ...]
    started: RunStarted
    queue_s: float = 0.0
    load_s: float = 0.0
    compute_s: float = 0.0
    final: bool = True
    parameters: Parameters = field(default_factory=dict)


def refuse_extensions(parameters: Parameters) -> None:
    """Refuse what is asked of extensions that are not offered.

    Raises:
        InputError: such a parameter is given and not off.
    """
    if _REFUSED.keys().isdisjoint(parameters):
        return
    for name, why in _REFUSED.items():
        if parameters.get(name):
            raise InputError(why)
