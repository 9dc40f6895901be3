"""The Lightning module: loss, optimizer, schedule and metrics around the network."""

from collections.abc import Sequence
from typing import Any, Literal

import lightning
import torch
from torch import Tensor, nn

from trainer.errors import UserError
from trainer.model.backbones import DEFAULT
from trainer.model.metrics import multilabel_metrics
from trainer.model.network import MultiLabelNetwork
from trainer.model.schedule import OneCycle
from trainer.model.weights import pretrained_state


class MultiLabelClassifier(lightning.LightningModule):
    """A network that answers every label with yes or no by itself (binary cross-entropy per class)."""

    def __init__(
        self,
        classes: Sequence[str],
        backbone: str = DEFAULT,
        weights: str = "imagenet",
        freeze_backbone: bool = False,
        normalization: Literal["imagenet", "dataset"] = "imagenet",
        learning_rate: float = 1e-3,
        backbone_rate: float = 0.1,
        weight_decay: float = 0.01,
        warm_up: float = 0.25,
        dropout: float = 0.2,
        balance_classes: bool = False,
        cached_views: int = 8,
    ) -> None:
        """Build the network with random weights; `prepare` loads the ones to start from.

        Args:
            classes: label names in output order.
            backbone: the architecture, by its name in trainer/model/backbones.py.
            weights: where to start: imagenet, none (random), torchvision's .pth file, or a model.onnx of Manasight's.
            freeze_backbone: train the linear layer only; the backbone's batch-norm statistics stay too.
            normalization: channel means and deviations of ImageNet, or of the training split. Weights that carry their
                own keep it.
            learning_rate: highest learning rate of the linear layer.
            backbone_rate: the backbone's learning rate as a share of that.
            weight_decay: AdamW's decoupled weight decay.
            warm_up: share of the steps in which the learning rate rises (one-cycle schedule).
            dropout: share of the pooled features that training drops.
            balance_classes: weigh each class's positives by how rare they are.
            cached_views: with a frozen backbone, how many augmented versions of each training image it sees, once
                each, before the linear layer is trained on their features; 0 runs it again in every epoch.
        """
        super().__init__()
        self.save_hyperparameters()
        self.classes = list(classes)
        self.network = MultiLabelNetwork(len(self.classes), dropout, backbone)
        # Held by the module, so a checkpoint brings it back.
        self.register_buffer("pos_weight", torch.ones(len(self.classes)))
        self.val_metrics = multilabel_metrics(len(self.classes), "val_")
        if freeze_backbone:
            self.network.backbone.requires_grad_(False)
        self.train()  # Lightning trains each module in the mode that it finds it in

    def prepare(self, data: Any) -> None:
        """Load the weights to start from and what depends on the training split. Not needed after a checkpoint.

        Args:
            data: the MultiLabelDataModule to train on.

        Raises:
            UserError: if the weights cannot be had or do not fit.
        """
        options = self.hparams
        if options["normalization"] == "dataset":
            mean, deviation = data.statistics()
            self.network.mean.copy_(torch.from_numpy(mean))
            self.network.std.copy_(torch.from_numpy(deviation).clamp(min=1e-3))
        if options["weights"] != "none":
            state = pretrained_state(options["weights"], options["backbone"])
            self.network.load_state_dict(state, strict=False)  # the head keeps its random weights
        elif options["freeze_backbone"]:
            raise UserError("a frozen backbone needs weights; set --model.weights, or --model.freeze_backbone false")
        if options["balance_classes"]:
            positives = data.dataset("train").targets.sum(0)
            self.pos_weight.copy_((len(data.dataset("train")) - positives) / positives)

    def forward(self, images: Tensor) -> Tensor:
        """Logits float32 `[N, C]` of images uint8 `[N, H, W, 3]`."""
        return self.network(images)

    def train(self, mode: bool = True) -> "MultiLabelClassifier":
        """Switch to training, but leave a frozen backbone's batch normalization in evaluation mode."""
        super().train(mode)
        if self.hparams["freeze_backbone"]:
            self.network.backbone.eval()
        return self

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Binary cross-entropy, averaged over images and classes."""
        return nn.functional.binary_cross_entropy_with_logits(logits, targets, pos_weight=self.pos_weight)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """One step on images uint8 `[N, H, W, 3]` and targets float32 `[N, C]`."""
        images, targets = batch
        loss = self.loss(self(images), targets)
        self.log("train_loss", loss, prog_bar=True, on_step=True, on_epoch=True, batch_size=len(images))
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Collect loss and metrics over the validation split."""
        images, targets = batch
        logits = self(images)
        self.log("val_loss", self.loss(logits, targets), prog_bar=True, batch_size=len(images), sync_dist=True)
        self.val_metrics.update(logits.sigmoid(), targets.int())

    def on_validation_epoch_end(self) -> None:
        """Log the validation split's figures."""
        figures = self.val_metrics.compute()
        self.log("val_macro_f1", figures.pop("val_macro_f1"), prog_bar=True)
        self.log_dict(figures)
        self.val_metrics.reset()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep how many processes count the batches of an epoch."""
        checkpoint["world_size"] = self.trainer.world_size

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Resume at the same place of an epoch if other processes than before share its batches."""
        before = checkpoint.get("world_size", self._trainer.world_size) if self._trainer else None
        if before is None or before == self.trainer.world_size:
            return
        progress = checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]
        if not progress["is_last_batch"]:
            progress["current"] = {
                name: count * before // self.trainer.world_size for name, count in progress["current"].items()
            }

    def configure_optimizers(self) -> dict[str, Any]:
        """AdamW with two learning rates under one cycle (Smith & Topin 2017, https://arxiv.org/abs/1708.07120)."""
        rate, options = self.hparams["learning_rate"], self.hparams
        groups = [{"params": self.network.head.parameters(), "lr": rate}]
        if not options["freeze_backbone"]:
            groups.append({"params": self.network.backbone.parameters(), "lr": rate * options["backbone_rate"]})
        optimizer = torch.optim.AdamW(groups, weight_decay=options["weight_decay"], fused=True)
        # The cycle's two parts need two steps each; a shorter training ends within them.
        steps = max(4, int(self.trainer.estimated_stepping_batches))
        schedule = OneCycle(
            optimizer,
            max_lr=[group["lr"] for group in groups],
            total_steps=steps,
            pct_start=min(max(options["warm_up"], 2 / steps), 1 - 2 / steps),
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
