"""Decoding steps as CUDA graphs: one launch in place of hundreds.

A step of one sequence runs kernels of a few microseconds each, less than Python needs to launch
them. Graphs are captured at the start for every size of a step, the largest first, and share one
pool of memory: only one runs at a time, and what it gives is copied into buffers outside. Nothing
here knows what a step computes.
"""

from __future__ import annotations

import torch

from memory3.model.cache import SlotCache
from memory3.model.static_step import StaticStep
from memory3.model.transformer import Transformer

_WARM_UPS = 3


class GraphedStep(StaticStep):
    """The static step, replayed from CUDA graphs.

    Args:
        model: On a CUDA device.
        cache: Its slots; its tensors must stay where they are, for graphs hold addresses.
    """

    def __init__(self, model: Transformer, cache: SlotCache) -> None:
        super().__init__(model, cache)
        self._device = model.device
        self._graphs: dict[tuple[int, int, bool], torch.cuda.CUDAGraph] = {}
        with torch.cuda.device(self._device):
            self._pool = torch.cuda.graph_pool_handle()
            self._stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]

    def prepare(self) -> None:
        """Capture all sizes; steps that report are captured when they are first asked for."""
        for rows in reversed(self.row_sizes):
            for columns in reversed(self.column_sizes):
                self._graph(rows, columns, report=False)

    def launch(self, rows: int, columns: int, report: bool) -> None:
        """Replay the graph of these sizes on the current stream."""
        self._graph(rows, columns, report).replay()

    def _graph(self, rows: int, columns: int, report: bool) -> torch.cuda.CUDAGraph:
        key = (rows, columns, report)
        if key not in self._graphs:
            self._graphs[key] = self._capture(rows, columns, report)
        return self._graphs[key]

    def _capture(self, rows: int, columns: int, report: bool) -> torch.cuda.CUDAGraph:
        # Nobody takes part, so that warming up changes no slot. The numbers of a step that waits
        # for this graph are put back behind it.
        numbers = self._numbers.clone()
        self._numbers.zero_()
        with torch.cuda.device(self._device):
            self._stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(self._stream):
                for _ in range(_WARM_UPS):
                    self.compute(rows, columns, report)
            torch.cuda.current_stream().wait_stream(self._stream)
            graph = torch.cuda.CUDAGraph()
            # Other threads may copy memories to the device meanwhile.
            with torch.cuda.graph(
                graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"
            ):
                self.compute(rows, columns, report)
        self._numbers.copy_(numbers)
        return graph
