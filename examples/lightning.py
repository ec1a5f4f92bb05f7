"""Train with Lightning: the network and the loss are ordinary modules.

pip install lightning && python examples/lightning.py
"""

import lightning as L
import torch
from torch.utils.data import DataLoader, Dataset

import fastmef
from fastmef.metrics import MEFSSIMMetric


class Ramps(Dataset):
    """Two exposures of random textures. Replace them by your scenes, (K, 3, H, W) in [0, 1]."""

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> torch.Tensor:
        light = torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(index))
        return torch.stack([0.4 * light, (1.6 * light).clamp(max=1)])


class Fusion(L.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.net = fastmef.FusionNet(exposures=2, width=4)
        self.criterion = fastmef.WeightedSSIMLoss()
        self.score = MEFSSIMMetric("ma2015", scales=1)

    def training_step(self, exposures: torch.Tensor, index: int) -> torch.Tensor:
        loss = self.criterion(self.net(exposures).fused, exposures)
        self.log("loss", loss)
        return loss

    def validation_step(self, exposures: torch.Tensor, index: int) -> None:
        self.score.update(self.net(exposures).fused, exposures)
        self.log("mef_ssim", self.score)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=1e-3)


if __name__ == "__main__":
    trainer = L.Trainer(max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False)
    trainer.fit(Fusion(), DataLoader(Ramps(), 4), DataLoader(Ramps(), 4))
    print({name: round(float(value), 4) for name, value in trainer.callback_metrics.items()})
