"""The learning rate over a training; a resumed training may have another number of steps."""

from typing import Any

from torch.optim.lr_scheduler import OneCycleLR


class OneCycle(OneCycleLR):
    """One cycle (https://arxiv.org/abs/1708.07120); after its last step the rate stays at its lowest.

    The number of steps changes with the number of processes: each makes batches of its own.
    """

    def step(self, epoch: int | None = None) -> None:
        """Advance by a step."""
        if self.last_epoch + 1 < self.total_steps:
            super().step(epoch)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue at the same share of the cycle, whatever its number of steps was."""
        own = {name: getattr(self, name) for name in ("total_steps", "_schedule_phases")}
        before = state_dict["total_steps"]
        super().load_state_dict(state_dict | own)
        if before != self.total_steps:
            self.last_epoch = min(round(self.last_epoch * self.total_steps / before), self.total_steps - 1) - 1
            super().step()  # sets the optimizer's rates
