"""Open a dataset that `choreo pair` made and look at one batch of it: python load_pack.py DATASET"""

import sys

from choreo_cli.dataset.augment import Augment
from choreo_cli.dataset.dataset_torch import PoseMusicDataset, loader
from choreo_cli.dataset.pack import open_pack

pack = open_pack(sys.argv[1])
print(f"{len(pack.pairs)} pairs, {len(pack.x)} frames of {len(pack.columns)} inputs, {len(pack)} windows")
for split in ("train", "val", "test"):
    print(f"  {split}: {len(pack.select(split))} windows")
print("leaks:", pack.leaks() or "none")

# Standardised with the training split; a missing value is the training mean, and `present` says which are real.
data = PoseMusicDataset(pack, "train", augment=Augment(shift=4, noise=0.01), normalise=True, missing="mean", seed=0)
for epoch in range(2):
    data.set_epoch(epoch)
    for batch in loader(data, batch_size=32):
        real = batch["present"].float().mean().item()
        print(f"epoch {epoch}: x {tuple(batch['x'].shape)}, {100 * real:.0f} % real")
        break
