"""Land one file in a process of its own, which can be killed or run out of disk.

Usage: ``python land_once.py KIND ENDPOINT SOURCE DESTINATION MODE [LIMIT | die]``; KIND is a store of
``clients.py``, MODE ``create`` or ``replace``. ``LIMIT`` is the size past which no file can grow, ``die``
ends the process half way through a local file. Prints what came of it.
"""

import os
import resource
import shutil
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from airflow_provider_xcompliance.storage import StorageError, azure, digest_of, gs, land, s3
from tests.servers.clients import CLIENTS, PART_BYTES


def die_half_way(source, to, size):
    """Write half of a file, and end as by kill -9."""
    to.write(source.read()[: os.fstat(source.fileno()).st_size // 2])
    to.flush()
    os.kill(os.getpid(), signal.SIGKILL)


def main(kind, endpoint, source, destination, mode, fault=""):
    """Land it, in parts that are as small as they may be."""
    s3._PART_BYTES = gs._CHUNK_BYTES = azure._BLOCK_BYTES = PART_BYTES
    gs._RETRY_SECONDS = 0
    client, digest = CLIENTS[kind](endpoint), digest_of(source)
    if fault == "die":
        shutil.copyfileobj = die_half_way
    elif fault:
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(fault), int(fault)))
    try:
        print(land(Path(source), digest, destination, client, replace=mode == "replace"))
    except StorageError as error:
        print(error)


if __name__ == "__main__":
    main(*sys.argv[1:])
