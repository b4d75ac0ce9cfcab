"""The model's process: ``python -m memory3_decoder.model.process FD THREADS DEVICE [CPU...]``.

The decoder starts it and talks to it over a socket that it inherits; it is no service of its own.
It ends when that socket is closed. Signals to end are the decoder's to act on: it still needs its
model while it drains.
"""

from __future__ import annotations

import gc
import signal
import socket
import sys
import traceback

import torch

from memory3.model.affinity import bind_thread
from memory3_decoder.model.frames import frame, receive
from memory3_decoder.model.messages import CallDecoder
from memory3_decoder.model.worker import ModelWorker


def main(descriptor: str, num_threads: str, device: str, *cpus: str) -> None:
    """Work until the socket is closed."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    bind_thread([int(cpu) for cpu in cpus])
    torch.set_num_threads(int(num_threads))
    worker, incoming = ModelWorker(), CallDecoder(device)
    with socket.socket(fileno=int(descriptor)) as end:
        while (message := receive(end)) is not None:
            answer = _work(worker, incoming, message)
            try:
                end.sendall(frame(answer))
            except (BrokenPipeError, ConnectionResetError):
                return  # nobody is left who would read it


def _work(worker: ModelWorker, incoming: CallDecoder, message: bytearray) -> bytes:
    method, arguments = incoming.call(message)
    try:
        result = getattr(worker, method)(*arguments)
    except Exception as error:
        return incoming.error(error, traceback.format_exc())
    if method == "load":
        # A full round of the garbage collector over all that was loaded stops everything.
        gc.collect()
        gc.freeze()
    return incoming.result(result)


if __name__ == "__main__":
    main(*sys.argv[1:])
