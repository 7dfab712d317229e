"""A pretend accelerator: tensors that say they are elsewhere, and refuse to mix with the CPU's.

Its kernels are the CPU's, so a run on it must give the CPU's numbers to the last bit; a tensor
that was left behind, or a generator of the wrong device, is an error as it is on a GPU.
"""

from typing import Any

import torch
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

NAME = "pretend"

INDEXING = ("aten::index", "aten::_unsafe_index", "aten::index_put", "aten::index_put_")
JOINING = ("aten::cat", "aten::stack", "aten::index_put", "aten::index_put_")


class Elsewhere(torch.Tensor):
    """A tensor of the pretend accelerator; what it holds lies on the CPU.

    Attributes:
        held: That.
    """

    held: torch.Tensor

    @staticmethod
    def __new__(cls, held: torch.Tensor) -> "Elsewhere":
        made = torch.Tensor._make_wrapper_subclass(
            cls,
            held.size(),
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            layout=held.layout,
            device=torch.device(NAME, 0),
        )
        made.held = held
        return made

    def __init__(self, held: torch.Tensor) -> None:
        pass

    def __getitem__(self, index: Any) -> torch.Tensor:
        """Returns what an index takes; a list is made a tensor here, as torch asserts elsewhere."""
        return super().__getitem__(_indices(index))

    def __setitem__(self, index: Any, value: Any) -> None:
        super().__setitem__(_indices(index), value)

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Is written down as the CPU's, where torch.load is to put it."""
        return self.held.__reduce_ex__(protocol)

    def new_tensor(self, data: Any) -> torch.Tensor:  # type: ignore[override]
        """Returns numbers of this tensor's type, made on the CPU first."""
        return self.held.new_tensor(data).to(NAME)

    def tolist(self) -> Any:
        """Returns the numbers, which torch refuses to a subclass."""
        return self.held.tolist()

    def __repr__(self) -> str:  # type: ignore[override]
        return f"Elsewhere({self.held})"

    @classmethod
    def __torch_dispatch__(cls, op: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return computed(op, *args, **(kwargs or {}))


def _indices(index: Any) -> Any:
    if isinstance(index, tuple):
        return tuple(map(_indices, index))
    return torch.tensor(index) if isinstance(index, list) else index


def computed(op: Any, *args: Any, **kwargs: Any) -> Any:
    """Returns what an operation gives, computed on the CPU.

    Raises:
        RuntimeError: If it mixes devices.
    """
    name = op._schema.name
    if name == "aten::_to_copy":
        return _moved(op, *args, **kwargs)
    if name == "aten::copy_":
        to, source = _held(args[:2], [])
        to.copy_(source)
        return args[0]
    given: list[torch.Tensor] = []
    held_args = _held(args, given)
    held_kwargs = {key: _held(value, given) for key, value in kwargs.items()}
    _check(name, args, given)
    if kwargs.get("generator") is not None:
        raise RuntimeError(f"Expected a '{NAME}' device type for generator but found 'cpu'")
    if "device" in kwargs:
        held_kwargs["device"] = torch.device("cpu")
    known = {id(tensor.held): tensor for tensor in given if isinstance(tensor, Elsewhere)}
    return _wrapped(op(*held_args, **held_kwargs), known)


def _moved(op: Any, source: torch.Tensor, **kwargs: Any) -> torch.Tensor:
    target = torch.device(kwargs.pop("device", None) or source.device)
    copied: torch.Tensor = op(_held(source, []), **kwargs)
    return Elsewhere(copied) if target.type == NAME else copied


def _check(name: str, args: Any, given: list[torch.Tensor]) -> None:
    """Refuses tensors of both devices, but for single numbers and CPU indices, as torch does."""
    if name in INDEXING and isinstance(args[0], Elsewhere):
        given = [args[0], *([args[2]] if len(args) > 2 else [])]
    left = [t for t in given if not isinstance(t, Elsewhere) and (t.dim() or name in JOINING)]
    if left and len(left) < len(given):
        raise RuntimeError(
            "Expected all tensors to be on the same device, but found at least two devices, "
            f"{NAME} and cpu! ({name}, {[tuple(t.shape) for t in left]})"
        )


def _held(value: Any, given: list[torch.Tensor]) -> Any:
    """Returns an argument as the CPU has it, its tensors listed in ``given`` as they come."""
    if isinstance(value, torch.Tensor):
        given.append(value)
        return value.held if isinstance(value, Elsewhere) else value
    if isinstance(value, list | tuple):
        return type(value)(_held(part, given) for part in value)
    return value


def _wrapped(found: Any, known: dict[int, Elsewhere]) -> Any:
    """Returns a result as it is elsewhere; what was changed in place is what was given."""
    if isinstance(found, torch.Tensor):
        made = known.get(id(found))
        return Elsewhere(found) if made is None else made
    if isinstance(found, list | tuple):
        return type(found)(_wrapped(part, known) for part in found)
    return found


def install() -> None:
    """Makes torch know the device, once a process."""
    if hasattr(torch, NAME):
        return
    _setup_privateuseone_for_python_backend(NAME)
    module = getattr(torch, NAME)
    module.get_amp_supported_dtype = lambda: [torch.bfloat16]
    module.manual_seed_all = lambda _seed: None  # it draws nothing of its own
    module.library = torch.library.Library("_", "IMPL")
    module.library.fallback(computed, "PrivateUse1")


def on_either(maker: Any) -> Any:
    """Returns a maker, torch.tensor say, that makes numbers on the CPU first: torch asserts."""

    def made(data: Any, *, device: Any = None, **words: Any) -> torch.Tensor:
        if device is None or torch.device(device).type != NAME:
            return maker(data, device=device, **words)
        return maker(data, **words).to(device)

    return made
