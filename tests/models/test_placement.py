"""Where networks compute when a device is short of memory."""

from __future__ import annotations

import pytest
import torch

from napari_sam.models import SPECS, build_sam
from napari_sam.models.layers import RelativeAttention
from napari_sam.models.placement import SPARING_CHUNK, Placement, is_out_of_memory

CPU = torch.device("cpu")


def full() -> None:
    raise torch.cuda.OutOfMemoryError("CUDA out of memory")


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.cuda.OutOfMemoryError("Tried to allocate 2 GiB"), True),
        (RuntimeError("MPS backend out of memory (MPS allocated: 8 GB)"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
    ],
)
def test_a_full_memory_is_told_from_other_failures(error: RuntimeError, expected: bool) -> None:
    assert is_out_of_memory(error) is expected


def test_memory_is_saved_before_the_device_is_left() -> None:
    sam, said, ran = build_sam(SPECS["toy_vit"]), [], []
    placement = Placement(sam, CPU, torch.bfloat16, said.append)

    def in_parts() -> str:
        ran.extend({module.query_chunk for module in sam.modules() if isinstance(module, RelativeAttention)})
        return "done" if next(sam.image_encoder.parameters()).dtype == torch.float32 else full() or ""

    assert placement.run(lambda: full() or "", in_parts) == "done"
    assert ran == [SPARING_CHUNK, SPARING_CHUNK]
    assert len(said) == 2


def test_what_fits_nowhere_is_an_error() -> None:
    placement = Placement(build_sam(SPECS["toy_vit"]), CPU, torch.float32, lambda _said: None)
    with pytest.raises(torch.cuda.OutOfMemoryError):
        placement.run(full, full)


def test_an_encoding_goes_on_where_a_decode_between_its_blocks_moved_the_network() -> None:
    sam = build_sam(SPECS["toy_tiny_vit"])
    placement = Placement(sam, CPU, torch.float32, lambda _said: None)
    attempts = []

    def decode() -> str:
        full()
        return ""

    def encode() -> torch.Tensor:
        attempts.append(placement.device)
        if len(attempts) == 1:
            with pytest.raises(torch.cuda.OutOfMemoryError):
                placement.run(decode, decode)
            placement.device = torch.device("meta")  # as if it had been another one until now
            raise RuntimeError("Expected all tensors to be on the same device")
        return sam.encode(torch.zeros(1, 3, 64, 64))

    assert placement.run(encode, encode).isfinite().all()
    assert len(attempts) == 2
    assert not next(sam.parameters()).is_inference()  # moved between two blocks, it can be trained still


def test_a_network_that_does_not_fit_the_device_at_all_goes_to_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    sam, said = build_sam(SPECS["toy_vit"]), []
    to, tries = sam.image_encoder.to, []

    def limited(device: torch.device, dtype: torch.dtype) -> torch.nn.Module:
        tries.append(dtype)
        return full() or sam if len(tries) == 1 else to(device, dtype)

    monkeypatch.setattr(sam.image_encoder, "to", limited)
    placement = Placement(sam, CPU, torch.bfloat16, said.append)
    assert tries == [torch.bfloat16, torch.float32]
    assert placement.run(lambda: "", lambda: "in parts") == "in parts"
    assert "CPU" in said[0]
