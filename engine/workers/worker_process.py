"""What a worker process of this machine runs, and how it and its parent talk.

The parent starts Python, not a copy of itself: a script needs no `if __name__ == "__main__"`, and
no thread of the parent is cut in half. Messages go over the pipes of stdin and stdout, each its
length and a pickle; what is printed goes to stderr.
"""

import os
import pickle
import signal
import sys
import traceback
from typing import IO, Any, Final

import cloudpickle

from layerlake.store.errors import InvalidInput, LayerLakeError

BOOT: Final = (
    "import sys; sys.path[:] = sys.argv[1:]; "
    "from layerlake.engine.workers.worker_process import serve; serve()"
)
"""The program of a worker; its arguments are the folders that its parent imports from."""
_LENGTH: Final = 8


def packed(value: Any, what: str) -> bytes:
    """Return a value pickled, functions and classes of the main script with their code.

    Raises
    ------
    InvalidInput
        It cannot be pickled, or says itself that it cannot leave this process.
    """
    try:
        content: bytes = cloudpickle.dumps(value)
    except LayerLakeError:
        raise
    except (pickle.PicklingError, TypeError, AttributeError, ValueError) as error:
        raise InvalidInput(
            f"{what} cannot be sent to another process: {error}; choose the scheduler threads"
        ) from error
    return content


def unpacked(content: bytes) -> Any:
    """Return what was packed."""
    return pickle.loads(content)


def send(content: bytes, stream: IO[bytes]) -> None:
    """Write a message, whole."""
    stream.write(len(content).to_bytes(_LENGTH, "little"))
    stream.write(content)
    stream.flush()


def receive(stream: IO[bytes]) -> bytes:
    """Read a message; raise `EOFError` where the other side is gone before its end."""
    size = int.from_bytes(_exactly(stream, _LENGTH), "little")
    return _exactly(stream, size)


def _exactly(stream: IO[bytes], size: int) -> bytes:
    """Read so many bytes."""
    content = stream.read(size)
    if len(content) < size:
        raise EOFError
    return content


def serve() -> None:
    """Turn parts from stdin into states on stdout until there are no more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent is told, and ends this process
    requests = sys.stdin.buffer
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    try:
        function = unpacked(receive(requests))
        while True:
            part = unpacked(receive(requests))
            try:
                reply = packed((True, function(part)), "the state of a part")
            except BaseException as error:  # noqa: BLE001 - raised by the parent
                reply = packed_error(error)
            send(reply, replies)
            del reply
    except (EOFError, BrokenPipeError):
        pass  # the parent wants no more, or is gone


def packed_error(error: BaseException) -> bytes:
    """Pack (False, error), to be raised elsewhere; an error that nobody expects has its trace."""
    if not isinstance(error, LayerLakeError):
        error.add_note("in a worker:\n" + "".join(traceback.format_exception(error)))
    try:
        content = packed((False, error), "an error")
        unpacked(content)
    except Exception:  # noqa: BLE001 - an error may fail to be rebuilt in any way
        plain = RuntimeError("".join(traceback.format_exception(error)))
        return packed((False, plain), "an error")
    return content
