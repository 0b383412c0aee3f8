"""Virtual memory of one NVIDIA GPU through the driver's calls (`Memory` of device.py).

Physical memory, addresses and mappings are made one by one (CUDA driver API, "Virtual Memory Management"), so that a
block can be handed to another process and can show up at several addresses.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from dwdp_lab.execute.cuda.gpu.device import HandleKind
from dwdp_lab.execute.cuda.gpu.driver_calls import DriverError, call, is_out_of_memory, load_driver, mebibytes

_WITHOUT_SUPPORT = 1 << 21  # of a GPU that cannot tell its granularity; all that can say 2 MiB


class DriverMemory:
    """The memory of GPU `index`, as torch counts GPUs. Raises ImportError and DriverError.

    Where the GPU has no virtual memory management, it can be made all the same, and `create` fails.
    """

    def __init__(self, index: int) -> None:
        self.index = index
        self._driver: Any = load_driver()
        torch.cuda.set_device(index)
        torch.cuda.synchronize(index)  # makes the context that the driver's calls need
        names = self._driver
        self._kinds: dict[HandleKind, Any] = {
            "descriptor": names.CUmemAllocationHandleType.CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR,
            "fabric": names.CUmemAllocationHandleType.CU_MEM_HANDLE_TYPE_FABRIC,
        }
        self.granularity = self._least_size()

    def available(self) -> int:
        torch.cuda.empty_cache()
        free, _ = torch.cuda.mem_get_info(self.index)
        return int(free)

    def create(self, nbytes: int, handles: HandleKind | None = None) -> int:
        try:
            return int(self._call("cuMemCreate", nbytes, self._properties(handles), 0, asked=self._sized(nbytes)))
        except DriverError as error:
            if not is_out_of_memory(error):
                raise
            # torch may hold freed memory; and if that was not it, how much there is belongs into the message
            asked = f"{self._sized(nbytes)}, {mebibytes(self.available())} free"
            return int(self._call("cuMemCreate", nbytes, self._properties(handles), 0, asked=asked))

    def export(self, block: int, handles: HandleKind) -> int | bytes:
        exported = self._call(
            "cuMemExportToShareableHandle",
            self._block(block),
            self._kinds[handles],
            0,
            asked=f"block {block} of GPU {self.index} as {handles}",
        )
        return bytes(exported.data) if handles == "fabric" else int(exported)

    def adopt(self, exported: int | bytes) -> int:
        kind: HandleKind = "fabric" if isinstance(exported, bytes) else "descriptor"
        asked = f"a peer's block by {kind} on GPU {self.index}"
        return int(self._call("cuMemImportFromShareableHandle", exported, self._kinds[kind], asked=asked))

    def release(self, block: int) -> None:
        self._call("cuMemRelease", self._block(block), asked=f"block {block} of GPU {self.index}")

    def reserve(self, nbytes: int) -> int:
        return int(self._call("cuMemAddressReserve", nbytes, 0, 0, 0, asked=f"addresses, {mebibytes(nbytes)}"))

    def map(self, address: int, nbytes: int, block: int) -> None:
        asked = f"{self._sized(nbytes)} at {address:#x}"
        self._call("cuMemMap", self._pointer(address), nbytes, 0, self._block(block), 0, asked=asked)
        try:
            self.open_to(self.index, address, nbytes)
        except BaseException:
            self.unmap(address, nbytes)
            raise

    def open_to(self, gpu: int, address: int, nbytes: int) -> None:
        access = self._driver.CUmemAccessDesc()
        self._place(access.location, gpu)
        access.flags = self._driver.CUmemAccess_flags.CU_MEM_ACCESS_FLAGS_PROT_READWRITE
        asked = f"{self._sized(nbytes)} at {address:#x}, opened to GPU {gpu}"
        self._call("cuMemSetAccess", self._pointer(address), nbytes, [access], 1, asked=asked)

    def unmap(self, address: int, nbytes: int) -> None:
        self._call("cuMemUnmap", self._pointer(address), nbytes, asked=f"{self._sized(nbytes)} at {address:#x}")

    def free(self, address: int, nbytes: int) -> None:
        asked = f"addresses {address:#x}, {mebibytes(nbytes)}"
        self._call("cuMemAddressFree", self._pointer(address), nbytes, asked=asked)

    def tensor(self, address: int, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        return tensor_over(address, shape, dtype, torch.device("cuda", self.index))

    def _least_size(self) -> int:
        names = self._driver
        supported = names.CUdevice_attribute.CU_DEVICE_ATTRIBUTE_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED
        asked = f"virtual memory management on GPU {self.index}"
        if not self._call("cuDeviceGetAttribute", supported, names.CUdevice(self.index), asked=asked):
            return _WITHOUT_SUPPORT
        least = names.CUmemAllocationGranularity_flags.CU_MEM_ALLOC_GRANULARITY_MINIMUM
        properties = self._properties("descriptor")
        return int(self._call("cuMemGetAllocationGranularity", properties, least, asked=asked))

    def _properties(self, handles: HandleKind | None) -> Any:
        properties = self._driver.CUmemAllocationProp()
        properties.type = self._driver.CUmemAllocationType.CU_MEM_ALLOCATION_TYPE_PINNED
        self._place(properties.location, self.index)
        if handles is not None:
            properties.requestedHandleTypes = self._kinds[handles]
        return properties

    def _place(self, location: Any, gpu: int) -> None:
        """Fill a structure's location in, where it is: in the bindings up to CUDA 13.0 it is a bare pointer into the
        structure, so the location of one that is gone by the end of the line would be read from freed memory."""
        location.type = self._driver.CUmemLocationType.CU_MEM_LOCATION_TYPE_DEVICE
        location.id = gpu

    def _block(self, block: int) -> Any:
        return self._driver.CUmemGenericAllocationHandle(block)

    def _pointer(self, address: int) -> Any:
        return self._driver.CUdeviceptr(address)

    def _call(self, name: str, *arguments: Any, asked: str) -> Any:
        return call(self._driver, name, *arguments, asked=asked)

    def _sized(self, nbytes: int) -> str:
        return f"{mebibytes(nbytes)} on GPU {self.index}"


def tensor_over(address: int, shape: Sequence[int], dtype: torch.dtype, device: torch.device) -> Tensor:
    """A contiguous tensor over memory that somebody else keeps.

    torch has no public way to name a device for a bare address (a peer's memory, mapped here, counts as this device's
    own; `__cuda_array_interface__` refuses it), and this private function has been the same from 2.11 to 2.13.
    """
    nbytes = math.prod(shape) * dtype.itemsize
    strides = [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]
    with torch.inference_mode(False):  # wherever it is made, it may be written anywhere
        storage = torch._C._construct_storage_from_data_pointer(address, device, nbytes)
        return torch.empty(0, dtype=dtype, device=device).set_(storage, 0, tuple(shape), strides)
