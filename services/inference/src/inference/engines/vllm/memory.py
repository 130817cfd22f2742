"""What a model takes of the memory, told by the processes of vLLM that hold it."""

from collections.abc import Iterator
from typing import Any


class MemoryReport:
    """Added to each worker of vLLM, by `worker_extension_cls`."""

    get_model: Any
    model_runner: Any

    def report_memory(self) -> tuple[int, int]:
        """Bytes of the weights, and of the KV cache, in this worker."""
        weights = sum(each.nbytes for each in self.get_model().parameters())
        # Layers may share the memory of their caches.
        caches = {
            each.untyped_storage().data_ptr(): each.untyped_storage().nbytes()
            for each in _flatten(self.model_runner.kv_caches)
        }
        return weights, sum(caches.values())


def _flatten(caches: Any) -> Iterator[Any]:
    """The tensors: a layer has one, or several."""
    for each in caches:
        if isinstance(each, list | tuple):
            yield from _flatten(each)
        else:
            yield each
