"""Networks that see: videos in, class, forecast and the path they think they saw out.

Every network takes images (B, T, 3, H, W) in 0..1 and refuses anything else: coordinates cannot be passed.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from choreo_cli.trajectory.curves import FAMILIES, FUTURE, SHOWN
from choreo_cli.trajectory.moments import FLOOR_SHARE, PEAK_SHARE, PER_FRAME

FEATURES = 512
CAMERA = 12
ENCODERS = ("moments", "i3d", "slowfast", "dualpath", "strided")
SHARP = 10.0  # of the soft-argmax: e^10 times the background where a map is highest
WIDTH_AT = 0.5  # of a map's height: what is above tells how large the dot is, without its trail
SLOW_EVERY, FAST_SHARE = 4, 8  # frames of the slow path, and channels of the fast one as a part of the slow one's


def need_videos(videos: Tensor) -> None:
    """Raises ValueError when it is not a batch of videos: (B, T >= 4, 3, H >= 16, W >= 16)."""
    good = videos.ndim == 5 and videos.shape[2] == 3 and videos.shape[1] >= 4 and min(videos.shape[3:]) >= 16
    if not good:
        raise ValueError(
            f"need videos (B, T >= 4, 3, H >= 16, W >= 16), got {tuple(videos.shape)}: coordinates are not images"
        )


class Moments(nn.Module):
    """Branch 0: image moments of each frame, standardised, and a small MLP. (B, 16, 3, H, W) to (B, 512)."""

    mean: Tensor
    spread: Tensor

    def __init__(self, width: int = 256) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(PER_FRAME))
        self.register_buffer("spread", torch.ones(PER_FRAME))
        self.layers = nn.Sequential(
            nn.Linear(SHOWN * PER_FRAME, width), nn.GELU(), nn.Linear(width, width), nn.GELU(),
            nn.Linear(width, FEATURES), nn.GELU(),
        )  # fmt: skip

    def standardise(self, moments: Tensor) -> None:
        """Take mean and spread of each moment from (N, 16, 4)."""
        self.mean.copy_(moments.mean((0, 1)))
        self.spread.copy_(moments.std((0, 1)).clamp(min=1e-6))

    def forward(self, videos: Tensor) -> Tensor:
        return self.from_moments(image_moments(videos))

    def from_moments(self, moments: Tensor) -> Tensor:
        """Features of moments (B, 16, 4) that were measured before."""
        found: Tensor = self.layers(((moments - self.mean) / self.spread).flatten(1))
        return found


def image_moments(videos: Tensor) -> Tensor:
    """`moments.frame_moments` of videos in 0..1: (B, T, 4)."""
    light = (videos * 255).round().sum(2)
    h, w = light.shape[2:]
    flat = light.flatten(2)
    peak = flat.amax(-1, keepdim=True)
    across, down = _line(w, flat).repeat(h), _line(h, flat).repeat_interleave(w)
    above = (flat - FLOOR_SHARE * peak).clamp(min=0)
    held, safe = above.sum(-1).clamp(min=1e-6), peak[..., 0].clamp(min=1)
    dot = (flat * (flat > PEAK_SHARE * peak)).sum(-1)
    places = [(above * across).sum(-1) / held, (above * down).sum(-1) / held]
    return torch.stack([*places, (dot / safe).sqrt() / w, (flat.sum(-1) / safe).sqrt() / w], dim=-1)


def _block(a: int, b: int, kernel: tuple[int, int, int], stride: tuple[int, int, int] = (1, 1, 1)) -> nn.Sequential:
    pad = (kernel[0] // 2, kernel[1] // 2, kernel[2] // 2)
    return nn.Sequential(nn.Conv3d(a, b, kernel, stride, pad, bias=False), nn.BatchNorm3d(b), nn.ReLU(inplace=True))


class I3d(nn.Module):
    """A small 3-D CNN after I3D (Carreira and Zisserman, 2017): three 3x3x3 blocks, pooled to a grid, 512 features.

    Args:
        width: Channels of the first block; 2 and 4 times as many follow.
        grid: Cells of a side that keep position; 1 is the global pool, which forgets where things are.
        stem: Stride in the image of the first layer.
    """

    def __init__(self, width: int = 32, grid: int = 4, stem: int = 1) -> None:
        super().__init__()
        k = (3, 3, 3)
        self.first, self.second, self.third = (
            _block(3, width, k, (1, stem, stem)), _block(width, 2 * width, k), _block(2 * width, 4 * width, k)
        )  # fmt: skip
        self.pool = nn.AdaptiveAvgPool3d((4, grid, grid))
        self.out = nn.Linear(4 * width * 4 * grid * grid, FEATURES)

    def forward(self, videos: Tensor) -> Tensor:
        x = _channels_first(videos)
        x = F.max_pool3d(self.first(x), 2)
        x = F.max_pool3d(self.second(x), 2)
        found: Tensor = self.out(self.pool(self.third(x)).flatten(1))
        return found


class SlowFast(nn.Module):
    """Two pathways after SlowFast (Feichtenhofer et al., 2019), with lateral connections from fast to slow.

    The slow path sees every 4th frame with all channels, the fast path every frame with an eighth of them.
    """

    def __init__(self, width: int = 32, grid: int = 4) -> None:
        super().__init__()
        fast = max(width // FAST_SHARE, 1)
        spatial, full, half = (1, 3, 3), (3, 3, 3), (1, 2, 2)
        self.slow = nn.ModuleList([
            _block(3, width, (1, 5, 5), half), _block(width + 2 * fast, 2 * width, spatial, half),
            _block(2 * width + 4 * fast, 4 * width, full, half),
        ])  # fmt: skip
        self.fast = nn.ModuleList([
            _block(3, fast, (5, 5, 5), half), _block(fast, 2 * fast, full, half),
            _block(2 * fast, 4 * fast, full, half),
        ])  # fmt: skip
        lateral = {"kernel_size": (5, 1, 1), "stride": (SLOW_EVERY, 1, 1), "padding": (2, 0, 0)}
        self.across = nn.ModuleList([
            nn.Conv3d(fast, 2 * fast, **lateral), nn.Conv3d(2 * fast, 4 * fast, **lateral)  # type: ignore[arg-type]
        ])  # fmt: skip
        self.pool = nn.AdaptiveAvgPool3d((4, grid, grid))
        self.out = nn.Linear((4 * width + 4 * fast) * 4 * grid * grid, FEATURES)

    def forward(self, videos: Tensor) -> Tensor:
        quick = _channels_first(videos)
        slow = quick[:, :, ::SLOW_EVERY]
        for k in range(3):
            slow, quick = self.slow[k](slow), self.fast[k](quick)
            if k < 2:
                slow = torch.cat([slow, self.across[k](quick)[:, :, : slow.shape[2]]], dim=1)
        both = torch.cat([self.pool(slow).flatten(1), self.pool(quick).flatten(1)], dim=1)
        found: Tensor = self.out(both)
        return found


class DualPath(nn.Module):
    """The plan's literal wording: slow is every frame at full resolution, fast every 4th frame at half resolution.

    It is the reverse of the published names and kept for comparison.
    """

    def __init__(self, width: int = 32, grid: int = 4, stem: int = 1) -> None:
        super().__init__()
        self.slow, self.fast = I3d(width, grid, stem), _Half(width, grid)
        self.out = nn.Linear(2 * FEATURES, FEATURES)

    def forward(self, videos: Tensor) -> Tensor:
        small = F.avg_pool3d(_channels_first(videos)[:, :, ::SLOW_EVERY], (1, 2, 2))
        found: Tensor = self.out(torch.cat([self.slow(videos), self.fast(small)], dim=1))
        return found


class _Half(nn.Module):
    """The fast path of `DualPath`: fewer and smaller frames, half the channels."""

    def __init__(self, width: int, grid: int) -> None:
        super().__init__()
        half = max(width // 2, 1)
        k = (3, 3, 3)
        self.blocks = nn.ModuleList([_block(3, half, k), _block(half, 2 * half, k), _block(2 * half, 4 * half, k)])
        self.pool = nn.AdaptiveAvgPool3d((2, grid, grid))
        self.out = nn.Linear(4 * half * 2 * grid * grid, FEATURES)

    def forward(self, x: Tensor) -> Tensor:
        for k, block in enumerate(self.blocks):
            x = block(x)
            if k < 2:
                x = F.max_pool3d(x, (1, 2, 2))
        found: Tensor = self.out(self.pool(x).flatten(1))
        return found


class Strided(nn.Module):
    """A CNN without a layer at full resolution, which keeps position: stride, coordinate channels, soft-argmax.

    The first layer sees, with stride 2, the light (the colours, each over its brightest pixel, are one picture) and two
    channels of coordinates. From it come heat maps of every frame, whose centres of mass are the places of what was
    seen, and a pyramid of strided convolutions; an MLP reads both. Frames are folded into the batch: a 2-D convolution
    is the (1, k, k) one, and faster.

    Args:
        width: Channels of the first layer.
        maps: Heat maps of each frame.
    """

    def __init__(self, width: int = 8, maps: int = 8) -> None:
        super().__init__()
        self.light = nn.Conv2d(1, width, 5, 2, 2)
        self.coordinates = nn.Conv2d(2, width, 5, 2, 2, bias=False)
        self.maps = nn.Conv2d(width, maps, 3, padding=1)
        self.deep = nn.Sequential(
            nn.Conv2d(width, 2 * width, 3, 2, 1), nn.ReLU(inplace=True),
            nn.Conv2d(2 * width, 4 * width, 3, 2, 1), nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(4), nn.Flatten(),
            nn.Linear(64 * width, 4 * width), nn.GELU(),
        )  # fmt: skip
        self.level = nn.BatchNorm1d(4 * maps)  # sizes and lights differ much in scale; places stay as they are
        self.place = nn.Sequential(nn.Linear(6 * maps, 64), nn.GELU(), nn.Linear(64, 3))
        self.out = nn.Sequential(
            nn.Linear(SHOWN * (6 * maps + 3 + 4 * width), 256), nn.GELU(), nn.Linear(256, 256), nn.GELU(),
            nn.Linear(256, FEATURES), nn.GELU(),
        )  # fmt: skip
        # The maps begin as blobs where the light is: a random map is flat, and its centre of mass teaches nothing.
        with torch.no_grad():
            self.coordinates.weight.zero_()
            self.maps.weight.abs_()
            for bias in (self.light.bias, self.maps.bias):
                assert bias is not None
                bias.zero_()

    def forward(self, videos: Tensor) -> Tensor:
        return self.look(videos)[0]

    def look(self, videos: Tensor) -> tuple[Tensor, Tensor]:
        """Features (B, 512), and where each frame's dot is, (B, T, 3): x, y in -1..1 and its radius."""
        b, t, _, h, w = videos.shape
        light = _levelled(videos).mean(2).reshape(b * t, 1, h, w)
        down, across = torch.meshgrid(_line(h, light), _line(w, light), indexing="ij")
        # A convolution is linear: that of the coordinates is done once, not for every frame.
        y = self.light(light) + self.coordinates(torch.stack([across, down])[None])
        y = torch.relu_(y.contiguous(memory_format=torch.channels_last))
        told = self._places(self.maps(y))
        seen = self.place(told)
        every = torch.cat([told, seen, self.deep(y)], dim=1)
        return self.out(every.reshape(b, -1)), seen.reshape(b, t, 3)

    def _places(self, heat: Tensor) -> Tensor:
        """Centre of mass, and spread, height, light and width, of every map of every frame: (B T, maps * 6)."""
        h, w = heat.shape[2:]
        flat = heat.flatten(2)
        highest = flat.amax(-1, keepdim=True).clamp(min=1e-3)
        share = torch.softmax(flat * (SHARP / highest.detach()), dim=-1)
        across, down = _line(w, heat).repeat(h), _line(h, heat).repeat_interleave(w)
        # Three sums over the places as one product.
        sums = share @ torch.stack([across, down, across**2 + down**2], dim=-1)
        x, y = sums[..., 0], sums[..., 1]
        spread = (sums[..., 2] - x**2 - y**2).clamp(min=0).add(1e-6).sqrt()
        highest = highest[..., 0]
        light = flat.sum(-1)
        wide = (flat - WIDTH_AT * highest[..., None]).relu_().sum(-1) / highest
        sizes = torch.cat([spread, highest.sqrt(), light, wide.add(1e-3).sqrt()], dim=1)
        return torch.cat([2 * x, 2 * y, self.level(sizes)], dim=1)


def _line(n: int, like: Tensor) -> Tensor:
    return torch.linspace(-1, 1, n, dtype=like.dtype, device=like.device)


def _levelled(videos: Tensor) -> Tensor:
    """Each colour channel over its brightest pixel in the video: what colour a dot has says nothing of its path."""
    return videos / videos.amax((1, 3, 4), keepdim=True).clamp(min=1 / 255)


def _channels_first(videos: Tensor) -> Tensor:
    return _levelled(videos).transpose(1, 2)


class Compress(nn.Module):
    """An autoencoder 512-256-128-256-512 (328,832 parameters); heads read its reconstruction."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Sequential(nn.Linear(FEATURES, 256), nn.ReLU(), nn.Linear(256, 128))
        self.up = nn.Sequential(nn.ReLU(), nn.Linear(128, 256), nn.ReLU(), nn.Linear(256, FEATURES))

    def forward(self, features: Tensor) -> Tensor:
        found: Tensor = self.up(self.down(features))
        return found


class Heads(nn.Module):
    """Class, forecast and the path that was seen, from features and the camera's numbers.

    Returns of `forward`: logits (B, 4), future (B, 4, 3) and shown (B, 16, 3) in the camera's orientation.
    """

    def __init__(self, camera: bool) -> None:
        super().__init__()
        extra = CAMERA if camera else 0
        self.family = nn.Linear(FEATURES, len(FAMILIES))
        self.future = nn.Sequential(nn.Linear(FEATURES + extra, 128), nn.ReLU(), nn.Linear(128, 3 * FUTURE))
        self.shown = nn.Sequential(nn.Linear(FEATURES + extra, 128), nn.ReLU(), nn.Linear(128, 3 * SHOWN))

    def forward(self, features: Tensor, camera: Tensor | None) -> dict[str, Tensor]:
        more = features if camera is None else torch.cat([features, camera], dim=1)
        return {
            "logits": self.family(features),
            "future": self.future(more).unflatten(1, (FUTURE, 3)),
            "shown": self.shown(more).unflatten(1, (SHOWN, 3)),
        }


class VideoNet(nn.Module):
    """An encoder, what enhances its features, and the heads.

    Args:
        encoder: One of `ENCODERS`.
        compress: Heads read the reconstruction of an autoencoder.
        aligned: A linear map of the features is drawn to the text embedding of the class.
        camera: The forecast also reads the camera's K, R and t as 12 numbers.
        width, grid: Of the encoder; 0 takes its own. stem: Stride in the image of `i3d`'s first layer.
    """

    def __init__(
        self, encoder: str, *, compress: bool = False, aligned: bool = False, camera: bool = False, width: int = 0,
        grid: int = 0, stem: int = 1,
    ) -> None:  # fmt: skip
        super().__init__()
        kinds: dict[str, Any] = {
            "moments": Moments, "i3d": I3d, "slowfast": SlowFast, "dualpath": DualPath, "strided": Strided,
        }  # fmt: skip
        if encoder not in kinds:
            raise ValueError(f"encoder {encoder!r} is not one of {', '.join(ENCODERS)}")
        own: dict[str, int] = {"width": width} if width else {}
        if grid and encoder in ("i3d", "slowfast", "dualpath"):
            own["grid"] = grid
        if encoder in ("i3d", "dualpath"):
            own["stem"] = stem
        self.encoder = kinds[encoder](**own)
        self.compress = Compress() if compress else None
        self.aligned = nn.Linear(FEATURES, FEATURES) if aligned else None
        self.camera = camera
        self.heads = Heads(camera)

    def forward(self, videos: Tensor, camera: Tensor | None = None) -> dict[str, Tensor]:
        """Videos (B, T, 3, H, W) in 0..1, and cameras (B, 12) where the model was built for them.

        Returns:
            logits (B, 4), future (B, 4, 3), shown (B, 16, 3), features (B, 512), and `rebuilt` or `aligned` (B, 512),
            or `places` (B, 16, 3) of an encoder that knows them.

        Raises:
            ValueError: not videos, or a camera that is missing or was not expected.
        """
        need_videos(videos)
        if isinstance(self.encoder, Strided):
            features, places = self.encoder.look(videos)
            return self.of_features(features, camera) | {"places": places}
        return self.of_features(self.encoder(videos), camera)

    def of_features(self, features: Tensor, camera: Tensor | None = None) -> dict[str, Tensor]:
        """What follows the encoder."""
        if (camera is not None) != self.camera:
            raise ValueError("the model was built " + ("with" if self.camera else "without") + " the camera's numbers")
        out: dict[str, Tensor] = {"features": features}
        read = features
        if self.compress is not None:
            read = self.compress(features)
            out["rebuilt"] = read
        if self.aligned is not None:
            out["aligned"] = self.aligned(features)
        told: dict[str, Tensor] = self.heads(read, camera)
        return out | told
