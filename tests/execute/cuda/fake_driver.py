"""cuda-python's driver bindings as far as memory needs them, over stand-in memory: result codes and handle objects."""

from __future__ import annotations

import enum
import weakref
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from host_memory import HostMemory

from dwdp_lab.execute.cuda.gpu.device import HandleKind
from dwdp_lab.execute.cuda.gpu.driver_calls import DriverError
from dwdp_lab.execute.cuda.memory import driver_memory
from dwdp_lab.execute.cuda.memory.driver_memory import DriverMemory, tensor_over


class Result(enum.IntEnum):
    CUDA_SUCCESS = 0
    CUDA_ERROR_OUT_OF_MEMORY = 2
    CUDA_ERROR_INVALID_DEVICE = 101
    CUDA_ERROR_NOT_SUPPORTED = 801
    CUDA_ERROR_UNKNOWN = 999


class Number:
    """CUdeviceptr, CUmemGenericAllocationHandle: objects that only int() opens."""

    def __init__(self, value: int) -> None:
        self.value = value

    def __int__(self) -> int:
        return self.value


FREED = -572662307
"""0xDDDDDDDD as a signed number: what Python's debug allocator leaves in memory that was given back."""


class Location:
    """CUmemLocation as a part of another structure: a bare pointer into that, which it does not keep alive (so it is in
    cuda-bindings up to 13.0; 13.5 keeps it)."""

    def __init__(self, whole: object) -> None:
        self._whole = weakref.ref(whole)
        self._fields = {"type": 0, "id": -1}

    @property
    def type(self) -> int:
        return self._read("type")

    @type.setter
    def type(self, value: int) -> None:
        self._fields["type"] = value

    @property
    def id(self) -> int:
        return self._read("id")

    @id.setter
    def id(self, value: int) -> None:
        self._fields["id"] = value

    def _read(self, field: str) -> int:
        return FREED if self._whole() is None else self._fields[field]


class Structure:
    """CUmemAllocationProp, CUmemAccessDesc. A location that is set is copied."""

    def __init__(self) -> None:
        self._location = Location(self)
        self.type = self.requestedHandleTypes = self.flags = 0

    @property
    def location(self) -> Location:
        return self._location

    @location.setter
    def location(self, other: Location) -> None:
        self._location.type, self._location.id = other.type, other.id


class HandleType(enum.IntEnum):
    CU_MEM_HANDLE_TYPE_NONE = 0
    CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR = 1
    CU_MEM_HANDLE_TYPE_FABRIC = 8


KINDS: dict[int, HandleKind | None] = {0: None, 1: "descriptor", 8: "fabric"}


class FakeDriver:
    """`refuse_access`: what cuMemSetAccess answers; `supported`: whether there is virtual memory management."""

    CUresult = Result
    CUmemAllocationHandleType = HandleType
    CUdeviceptr = Number
    CUmemGenericAllocationHandle = Number
    CUdevice = Number
    CUmemAllocationProp = CUmemAccessDesc = Structure
    CUmemAllocationType = SimpleNamespace(CU_MEM_ALLOCATION_TYPE_PINNED=1)
    CUmemLocationType = SimpleNamespace(CU_MEM_LOCATION_TYPE_DEVICE=1)
    CUmemAccess_flags = SimpleNamespace(CU_MEM_ACCESS_FLAGS_PROT_READWRITE=3)
    CUmemAllocationGranularity_flags = SimpleNamespace(CU_MEM_ALLOC_GRANULARITY_MINIMUM=0)
    CUdevice_attribute = SimpleNamespace(CU_DEVICE_ATTRIBUTE_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED=102)

    def __init__(self, memory: HostMemory) -> None:
        self.memory = memory
        self.refuse_access = Result.CUDA_SUCCESS
        self.supported = 1
        self.unreadable: dict[int, int] = {}  # mapped, but without access so far

    def cuDeviceGetAttribute(self, attribute: int, device: Number) -> tuple[Any, ...]:  # noqa: N802
        assert (attribute, int(device)) == (102, 1)
        return Result.CUDA_SUCCESS, self.supported

    def cuMemGetAllocationGranularity(self, prop: Any, option: int) -> tuple[Any, ...]:  # noqa: N802
        assert (prop.type, prop.location.type, prop.location.id, option) == (1, 1, 1, 0)
        return Result.CUDA_SUCCESS, self.memory.granularity

    def cuMemCreate(self, nbytes: int, prop: Any, flags: int) -> tuple[Any, ...]:  # noqa: N802
        assert (prop.type, prop.location.type, prop.location.id, flags) == (1, 1, 1, 0)
        return self._answer(lambda: Number(self.memory.create(nbytes, KINDS[prop.requestedHandleTypes])))

    def cuMemExportToShareableHandle(self, block: Number, kind: int, flags: int) -> tuple[Any, ...]:  # noqa: N802
        assert flags == 0
        named = KINDS[kind]
        assert named is not None

        def export() -> Any:
            exported = self.memory.export(int(block), named)
            return SimpleNamespace(data=exported) if isinstance(exported, bytes) else exported

        return self._answer(export)

    def cuMemImportFromShareableHandle(self, exported: Any, kind: int) -> tuple[Any, ...]:  # noqa: N802
        assert isinstance(exported, {"descriptor": int, "fabric": bytes}[str(KINDS[kind])])
        return self._answer(lambda: Number(self.memory.adopt(exported)))

    def cuMemRelease(self, block: Number) -> tuple[Any, ...]:  # noqa: N802
        return self._answer(lambda: self.memory.release(int(block)))

    def cuMemAddressReserve(self, nbytes: int, alignment: int, at: int, flags: int) -> tuple[Any, ...]:  # noqa: N802
        assert (alignment, at, flags) == (0, 0, 0)
        return self._answer(lambda: Number(self.memory.reserve(nbytes)))

    def cuMemAddressFree(self, address: Number, nbytes: int) -> tuple[Any, ...]:  # noqa: N802
        return self._answer(lambda: self.memory.free(int(address), nbytes))

    def cuMemMap(self, address: Number, nbytes: int, offset: int, block: Number, flags: int) -> tuple[Any, ...]:  # noqa: N802
        assert (offset, flags) == (0, 0)
        self.unreadable[int(address)] = nbytes
        return self._answer(lambda: self.memory.map(int(address), nbytes, int(block)))

    def cuMemSetAccess(self, address: Number, nbytes: int, told: list[Any], count: int) -> tuple[Any, ...]:  # noqa: N802
        assert len(told) == count == 1
        assert (told[0].location.type, told[0].flags) == (1, 3)
        if told[0].location.id != 1:
            return self._answer(lambda: self.memory.open_to(told[0].location.id, int(address), nbytes))
        if not self.refuse_access:
            assert self.unreadable.pop(int(address)) == nbytes
        return (self.refuse_access,)

    def cuMemUnmap(self, address: Number, nbytes: int) -> tuple[Any, ...]:  # noqa: N802
        return self._answer(lambda: self.memory.unmap(int(address), nbytes))

    def _answer(self, work: Any) -> tuple[Any, ...]:
        try:
            value = work()
        except DriverError as error:
            return (Result[error.result], None)
        return (Result.CUDA_SUCCESS,) if value is None else (Result.CUDA_SUCCESS, value)


def driver_memory_over(memory: HostMemory, monkeypatch: pytest.MonkeyPatch) -> tuple[DriverMemory, FakeDriver]:
    """DriverMemory of GPU 1 with these bindings, its tensors on the CPU."""
    driver = FakeDriver(memory)
    cpu = torch.device("cpu")
    monkeypatch.setattr(driver_memory, "load_driver", lambda: driver)
    monkeypatch.setattr(
        driver_memory, "tensor_over", lambda address, shape, dtype, _: tensor_over(address, shape, dtype, cpu)
    )
    for name in ("set_device", "synchronize"):
        monkeypatch.setattr(torch.cuda, name, lambda _: None)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: memory.log.append("empty_cache"))
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (memory.available(), memory.limit))
    return DriverMemory(1), driver
