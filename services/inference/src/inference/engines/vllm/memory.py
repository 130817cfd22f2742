"""What a model takes of the memory, told by the processes of vLLM that hold it."""

from collections.abc import Iterator
from typing import Any


class MemoryReport:
    """Added to each worker of vLLM, by `worker_extension_cls`."""

    model_runner: Any

    def report_memory(self) -> tuple[int | None, int]:
        """Bytes of the weights, and of the KV cache, in this worker.

        On a CPU vLLM does not count the weights: their layers have them in a form of their own.
        """
        weights = getattr(self.model_runner, "model_memory_usage", None)
        # Layers may share the memory of their caches.
        caches = {
            each.untyped_storage().data_ptr(): each.untyped_storage().nbytes()
            for each in _flatten(self.model_runner.kv_caches)
        }
        return None if weights is None else int(weights), sum(caches.values())


def _flatten(caches: Any) -> Iterator[Any]:
    """The tensors: a layer has one, or several."""
    for each in caches:
        if isinstance(each, list | tuple):
            yield from _flatten(each)
        else:
            yield each
