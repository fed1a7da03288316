"""The processes that train one run together, each with its part of every step."""

import os
import platform
import socket
import time
from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any, Self

import torch
import torch.distributed as dist
from torch import Tensor
from torch._C._distributed_c10d import FileStore, Store, TCPStore

from stages.backends.shared import workers
from stages.backends.shared.place import STORE, Place, own_place
from stages.errors import UserError

JOIN_SECONDS = "TSUGIKI_JOIN_SECONDS"
"""How long machines wait for each other at the start; 600 where it is not set."""
BUCKET_BYTES = 2**25
"""Gradients that are summed at once: fewer calls than one for each tensor, and no second copy of
all of them."""


class ProcessGroup:
    """Sums and lists over all processes. One that is alone is a group too, of size 1."""

    def __init__(self, place: Place) -> None:
        self.rank, self.size, self.leads = place.rank, place.size, place.leads

    @classmethod
    def join(cls, where: str, nodes: int) -> Self:
        """The group of this process.   where: "cuda" or "cpu".   nodes: machines.

        Raises UserError for a machine that does not come.
        """
        place = own_place()
        if place.size == 1 or dist.is_initialized():
            return cls(place)
        if where == "mps":
            raise UserError(
                "launch: the processes of a Mac would share its one GPU; set device: cpu, or "
                "launch.processes: 1"
            )
        address, wait = os.environ[STORE], os.environ.get(JOIN_SECONDS, "600")
        if not wait.isdecimal():
            raise UserError(f"{JOIN_SECONDS}={wait}: whole seconds, such as 600")
        seconds = timedelta(seconds=int(wait))
        store = (
            _store_of_machines(address, place, nodes, seconds)
            if address.startswith("tcp://")
            else FileStore(address, place.size)
        )
        # Objects go by way of the CPU, gradients of cards by way of NCCL. Who waits for another,
        # which tokenises for an hour, is not to end: the end of one is noticed by who began them.
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if where == "cuda" else "gloo",
            store=store,
            rank=place.rank,
            world_size=place.size,
            timeout=timedelta(days=7),
        )
        return cls(place)

    def require_alike(self, seen: Mapping[str, str]) -> None:
        """Raise UserError unless all processes see the same.   seen: {what: its checksum}."""
        everyones = self.gather((platform.node(), seen))
        for rank, (host, theirs) in enumerate(everyones):
            for what, checksum in everyones[0][1].items():
                if theirs[what] != checksum:
                    raise UserError(
                        f"launch: process {rank + 1} of {self.size}, on {host}, has another "
                        f"{what} than the first, on {everyones[0][0]}; bring both to one commit "
                        "with `dvc pull`, or let them share a folder"
                    )

    def gather(self, own: Any) -> list[Any]:
        """What each process has, by rank, in all of them."""
        everyones = [own] * self.size
        if self.size > 1:
            dist.all_gather_object(everyones, own)
        return everyones

    def meet(self) -> None:
        """Go on when all are here."""
        if self.size > 1:
            dist.barrier()

    def of_first(self, own: Any) -> Any:
        """What the first process has, in all of them."""
        return self.gather(own)[0]

    def sum(self, own: float) -> float:
        """Over all processes."""
        return self._reduced([own], dist.ReduceOp.SUM, torch.float64)[0]

    def most(self, own: int) -> int:
        """The largest of all processes'."""
        return int(self._reduced([own], dist.ReduceOp.MAX, torch.int64)[0])

    def _reduced(self, own: list[Any], how: Any, kind: torch.dtype) -> list[Any]:
        if self.size == 1:
            return own
        values = torch.tensor(own, dtype=kind)
        dist.all_reduce(values, how)
        found: list[Any] = values.tolist()
        return found

    @torch.no_grad()
    def sum_gradients(self, learned: Iterable[Tensor]) -> None:
        """Of one step, over all processes; one that had no rows for a weight adds nothing to it."""
        weights = list(learned)
        has = [weight.grad is not None for weight in weights]
        of_any = self._reduced(has, dist.ReduceOp.MAX, torch.uint8)
        gradients = list[Tensor]()
        for weight, wanted in zip(weights, of_any, strict=True):
            if wanted and weight.grad is None:
                weight.grad = torch.zeros_like(weight)
            if weight.grad is not None:
                gradients.append(weight.grad)
        for bucket in buckets(gradients):
            flat = torch.cat([gradient.flatten() for gradient in bucket])
            dist.all_reduce(flat)
            parts = torch.split(flat, [gradient.numel() for gradient in bucket])
            for gradient, part in zip(bucket, parts, strict=True):
                gradient.copy_(part.view_as(gradient))


def buckets(tensors: Iterable[Tensor]) -> list[list[Tensor]]:
    """Tensors of one type, together as large as BUCKET_BYTES where there are so many."""
    found, room = list[list[Tensor]](), 0
    for tensor in tensors:
        if room < tensor.nbytes or found[-1][0].dtype != tensor.dtype:
            found.append([])
            room = BUCKET_BYTES
        found[-1].append(tensor)
        room -= tensor.nbytes
    return found


def _store_of_machines(address: str, place: Place, nodes: int, seconds: timedelta) -> Store:
    host, _, port = address.removeprefix("tcp://").rpartition(":")
    if not place.leads:
        _await(host, int(port), seconds)
    try:
        store = TCPStore(host, int(port), place.size, place.leads, seconds, wait_for_workers=False)
    except dist.DistNetworkError as error:
        raise UserError(
            f"launch: no exchange at {host}:{port} (MASTER_ADDR, MASTER_PORT), which is to be this "
            f"machine's address and a free port: {str(error).splitlines()[0]}"
        ) from None
    store.set(f"machine/{place.node}", platform.node())
    names = dict(enumerate(workers.node_names()))
    keys = {node: f"machine/{node}" for node in range(nodes)}
    try:
        store.wait(list(keys.values()), seconds)
    except dist.DistNetworkError:
        raise UserError(f"launch: the first machine, {host}, has ended; see there") from None
    except dist.DistStoreError:
        absent = [node for node, key in keys.items() if not store.check([key])]
        called = ", ".join(names.get(node, f"NODE_RANK {node}") for node in absent)
        raise UserError(
            f"launch.nodes {nodes}: {called} did not come within {seconds.total_seconds():.0f} "
            f"seconds; give the same command there, with a way to {host}:{port}, or raise "
            f"{JOIN_SECONDS}"
        ) from None
    return store


def _await(host: str, port: int, seconds: timedelta) -> None:
    """Until the first machine listens: PyTorch's own wait prints a page of addresses each time."""
    until = time.monotonic() + seconds.total_seconds()
    while True:
        try:
            socket.create_connection((host, port), timeout=5).close()
            return
        except OSError as error:
            if time.monotonic() > until:
                raise UserError(
                    f"launch: the first machine, {host}, cannot be reached at port {port} "
                    f"(MASTER_ADDR, MASTER_PORT) after {seconds.total_seconds():.0f} seconds: "
                    f"{error}"
                ) from None
            time.sleep(0.5)
