"""The process that executes a notebook's cells: started with this interpreter, watched for its end."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import zmq
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager

from specbeam.files import places

ARGV = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}", "--log-level=CRITICAL"]

# Half of it is what a kernel gets to end by itself before it is told to: all its work is done and written by then, and
# freeing what PyTorch and transformers hold takes Python three seconds.
EXIT_S = 2.0

# Characters that jupyter_client and ipykernel add to the folder of the sockets.
SOCKET_NAME = len("/kernel-ipc-99")


class Kernel:
    """What papermill needs to start a kernel, and what it does not report afterwards.

    `manager` is the class to start it with. `exit_status` is that of a kernel that ended by itself, negative for a
    signal, and `cell` is the source of the last cell that began. Its sockets lie in a private folder, which goes with
    the context: a TCP port is chosen before the kernel listens to it, so two runs that begin at the same moment can
    get the same one, and then one hears the other's messages or does not start at all.
    """

    def __init__(self, variables: Mapping[str, str], output: BinaryIO, deadline: float | None = None):
        """`output` gets what the process prints past the notebook; `deadline` is a time of time.perf_counter()."""
        self.deadline = deadline
        self.exit_status: int | None = None
        self.cell = ""
        self._folder = tempfile.TemporaryDirectory(prefix="specbeam-", ignore_cleanup_errors=True)
        package = str(Path(__file__).resolve().parents[2])  # the kernel imports this copy
        others = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
        path = os.pathsep.join([package, *map(os.path.abspath, others)])  # it starts in another folder
        environment = {**os.environ, **places(os.environ), "PYTHONPATH": path, **variables}
        kernel = self

        class InterpreterKernel(AsyncKernelManager):
            @property
            def kernel_spec(self) -> KernelSpec:  # this interpreter, whatever kernel is installed as python3
                return KernelSpec(argv=ARGV, display_name="Python 3", language="python")

            async def start_kernel(self, **options: Any) -> None:
                self.shutdown_wait_time = EXIT_S
                self.connection_file = os.path.join(kernel._folder.name, "kernel.json")
                if zmq.has("ipc") and len(os.fsencode(kernel._folder.name)) + SOCKET_NAME <= zmq.IPC_PATH_MAX_LEN:
                    self.transport = "ipc"
                options |= {"env": environment, "stdout": output, "stderr": subprocess.STDOUT}
                await self._async_start_kernel(**options)

            async def is_alive(self) -> bool:
                status = await self.provisioner.poll() if self.provisioner is not None else None
                if status is not None:
                    kernel.exit_status = status
                return await self._async_is_alive()

        self.manager: type[AsyncKernelManager] = InterpreterKernel

    def __enter__(self) -> "Kernel":
        return self

    def __exit__(self, *error: object) -> None:
        self._folder.cleanup()

    def seconds_left(self, cell: Any) -> float | None:
        """Seconds until the deadline, for nbclient's `timeout_func`, which asks as each cell begins."""
        self.cell = cell.source
        return None if self.deadline is None else max(0.01, self.deadline - time.perf_counter())
