"""What a second training process brings on this machine's cores: images a second, weak and strong scaling.

    torchrun --standalone --nproc-per-node 2 benchmarks/ddp.py [--size 160 112] [--batch 32] [--batches 6] [--rounds 7]

The processes stay; in turns, so that other load on the machine meets all, they train the same network on a batch that
is in memory:

- alone:   one process with one thread, the others wait;
- threads: one process with as many threads as there are processes;
- apart:   every process on its own, with one thread and nothing to tell the others: what the cores can give together;
- weak:    all under DistributedDataParallel (gloo), as in `manasight fit` under torchrun: a whole batch for each;
- strong:  the same with one batch shared among them.

An efficiency is the rate divided by that of `alone` times the number of processes. Prints medians over the rounds.
"""

import argparse
import statistics
import time

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from trainer.model.classifier import MultiLabelClassifier
from trainer.resources import fast_bfloat16

CLASSES = 10
WARM = 2


class Loop:
    """Forward, loss, backward, step, as `manasight fit` does them; with or without the other processes."""

    def __init__(self, together: bool) -> None:
        """Build the network with random weights."""
        self.module = MultiLabelClassifier([f"label{k}" for k in range(CLASSES)], weights="none").train()
        self.network = DistributedDataParallel(self.module) if together else self.module
        self.optimizer = torch.optim.AdamW(self.module.network.parameters(), lr=1e-4, fused=True)

    def rate(self, images: torch.Tensor, targets: torch.Tensor, steps: int) -> float:
        """Images a second of this process."""
        for step in range(WARM + steps):
            if step == WARM:
                started = time.perf_counter()
            self.optimizer.zero_grad()
            with torch.autocast("cpu", torch.bfloat16, enabled=fast_bfloat16()):
                loss = self.module.loss(self.network(images), targets)
            loss.backward()
            self.optimizer.step()
        return steps * len(images) / (time.perf_counter() - started)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", nargs=2, type=int, default=(160, 112), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--batches", type=int, default=6, help="batches per measurement")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    dist.init_process_group("gloo")
    rank, world = dist.get_rank(), dist.get_world_size()
    images = torch.randint(0, 256, (options.batch, *options.size, 3), dtype=torch.uint8)
    targets = torch.randint(0, 2, (options.batch, CLASSES)).float()
    own, common = Loop(together=False), Loop(together=True)
    share = options.batch // world
    # name → loop, who runs it, threads, images of a step.
    turns = {
        "alone": (own, rank == 0, 1, options.batch),
        "threads": (own, rank == 0, world, options.batch),
        "apart": (own, True, 1, options.batch),
        "weak": (common, True, 1, options.batch),
        "strong": (common, True, 1, share),
    }
    rates: dict[str, list[float]] = {name: [] for name in turns}
    for _ in range(options.rounds):
        for name, (loop, runs, threads, count) in turns.items():
            torch.set_num_threads(threads)
            dist.barrier()
            rate = torch.tensor(loop.rate(images[:count], targets[:count], options.batches) if runs else 0.0)
            dist.all_reduce(rate)
            rates[name].append(float(rate))
    if rank == 0:
        height, width = options.size
        print(f"{world} processes, {height}x{width}, batch {options.batch}, {options.rounds} rounds")
        for name, found in rates.items():
            ratios = [rate / alone / world for rate, alone in zip(found, rates["alone"], strict=True)]
            low, high = min(ratios), max(ratios)
            print(
                f"{name:9}{statistics.median(found):8.2f} images/s   efficiency {statistics.median(ratios):.3f}"
                f" (rounds: {low:.3f} to {high:.3f})"
            )
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
