"""Random changes of a batch of patches, made on its device. They never make a label wrong.

Each transform of :class:`Augment` is, per patch, one of four cheap operations: a choice of which pixel goes where
(symmetries, shift); a matrix along rows and columns (zoom, blur, and the cosine transform of JPEG); a 3 x 3 matrix with
an offset, on optical densities (stain) or on colours; or an addition (noise). So a batch costs a few passes over its
pixels for each, and no loop over patches.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from sentinode.augmentation.symmetries import SYMMETRIES, check_symmetry
from sentinode.errors import RecipeError, nearest
from sentinode.geometry import PCAM, PatchGeometry

STAIN_SPACES = ("hed", "macenko")

# Rows: haematoxylin, eosin, DAB, as red, green and blue optical density (Ruifrok and Johnston 2001).
_HED = ((0.65, 0.70, 0.29), (0.07, 0.99, 0.11), (0.27, 0.57, 0.78))
_WHITE_DENSITY = math.log(256)  # of density 0, since densities here are ln(256) - ln(1 + value)
_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601, as in JPEG and YIQ


def symmetry(images: Tensor, k: int) -> Tensor:
    """One of the eight symmetries of the square.

    Args:
        images: (..., H, W, C), H = W.
        k: 0 to 7. ``k % 4`` quarter turns counter-clockwise, after a left-right mirror where ``k >= 4``.

    Returns:
        The rotated images, of the same shape and type; a view where torch can make one.

    Raises:
        ValueError: ``k`` is not one of the eight.
    """
    check_symmetry(k)
    mirrored = images.flip(-2) if k >= 4 else images
    return mirrored.rot90(k % 4, (-3, -2)) if k % 4 else mirrored


def mixup(images: Tensor, targets: Tensor, alpha: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Blend each patch, and its target, with another of the batch (Zhang et al. 2018, *mixup*).

    Patches are laid over one another without being moved, so the centre of the blend is the blend of the
    centres, and the target is still right for the centre.

    Args:
        images: uint8 (B, S, S, 3).
        targets: float (B, C), the probability of each class.
        alpha: of Beta(alpha, alpha), from which the shares are drawn; small values blend little. The larger
            share is the patch's own.
        generator: on the CPU.

    Returns:
        The blended images, uint8, and the blended targets.
    """
    seed = int(torch.randint(2**62, (1,), generator=generator))  # torch's own Beta takes no generator
    sampled = torch.from_numpy(np.random.default_rng(seed).beta(alpha, alpha, len(images)))
    share = torch.maximum(sampled, 1 - sampled).to(targets)
    partner = torch.randperm(len(images), generator=generator).to(images.device)
    blended = torch.lerp(images[partner].float(), images.float(), share.float().view(-1, 1, 1, 1))
    return blended.round_().to(torch.uint8), torch.lerp(targets[partner], targets, share.view(-1, 1))


@dataclass(frozen=True, kw_only=True)
class Augment:
    """Random changes of a batch of patches, applied in this order; each patch gets its own random values.

    Attributes:
        symmetries: apply a random one of the eight symmetries of the square.
        crop: cut out a square at a random place and enlarge it to the patch; its side is 1 - crop to 1 of the patch's,
            uniform. Only where the label covers the whole patch.
        shift: move by up to this many whole pixels each way, at most half the side of the square that the label covers
            (16 in PatchCamelyon).
        scale: zoom about the centre by a factor between 1 / (1 + scale) and 1 + scale, log-uniform.
        blur: probability of a Gaussian blur.
        blur_sigma: its largest standard deviation, in pixels; drawn uniformly from 0.
        stain: each stain's density is multiplied by a factor in 1 +- stain and moved by +- stain, uniformly
            (Tellez et al. 2018; 0.05 is slight, 0.2 strong).
        stain_space: ``hed``, the fixed stain vectors of Ruifrok and Johnston (2001), or ``macenko``, vectors
            estimated on each patch (Macenko et al. 2009); a patch that shows no two stains (blank, black) is
            then left alone.
        brightness: multiply by a factor in 1 +- brightness.
        contrast: stretch about the patch's mean grey by a factor in 1 +- contrast.
        saturation: stretch colours about grey by a factor in 1 +- saturation.
        hue: turn colours about grey (in YIQ) by +- this share of a full turn.
        noise: largest standard deviation of Gaussian noise, on the scale 0 to 255; drawn uniformly from 0.
        jpeg: probability of JPEG compression (baseline, 4:2:0).
        jpeg_quality: its lowest and highest quality, 1 to 100.
        mixup: alpha of :func:`mixup`, which :meth:`mix` applies because it needs the targets.
        geometry: of the patches.
    """

    symmetries: bool = False
    shift: int = 0
    scale: float = 0.0
    blur: float = 0.0
    blur_sigma: float = 1.0
    stain: float = 0.0
    stain_space: str = "hed"
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    noise: float = 0.0
    jpeg: float = 0.0
    jpeg_quality: tuple[int, int] = (50, 95)
    mixup: float = 0.0
    crop: float = 0.0
    geometry: PatchGeometry = PCAM

    def __post_init__(self) -> None:
        region, most = self.geometry.label_region, self.geometry.max_shift
        if not 0 <= self.shift <= most:
            raise RecipeError(
                f"a shift of {self.shift} pixels is outside 0 to {most}.",
                where="augment.shift",
                hint=f"The label covers the centre {region} x {region} pixels; a larger shift can make it wrong.",
            )
        if self.crop and not self.geometry.whole:
            raise RecipeError(
                f"a crop could cut off a part of the centre {region} x {region} pixels, which the label covers.",
                where="augment.crop",
                hint="Set augment.crop to 0. Crops are only for patches whose label covers the whole patch.",
            )
        if self.stain_space not in STAIN_SPACES:
            close = nearest(self.stain_space, list(STAIN_SPACES)) or STAIN_SPACES[0]
            raise RecipeError(
                f"there is no stain space '{self.stain_space}'.",
                where="augment.stain_space",
                hint=f"Did you mean '{close}'? The stain spaces are {' and '.join(STAIN_SPACES)}.",
            )

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Augment a batch.

        Args:
            images: uint8 (B, S, S, 3) RGB, on any device. They are not written to.
            generator: on the CPU, so that the same state draws the same parameters on any device.

        Returns:
            uint8 (B, S, S, 3) on the same device; ``images`` itself where every transform is off.

        Raises:
            ValueError: ``images`` is not a batch of RGB bytes.
        """
        square = images.ndim == 4 and images.shape[1] == images.shape[2] and images.shape[3] == 3
        if images.dtype != torch.uint8 or not square:
            raise ValueError(f"expected uint8 (B, S, S, 3), got {images.dtype} {tuple(images.shape)}")
        # Mixed precision would round colours to 8 bits between the steps.
        with torch.no_grad(), torch.autocast(images.device.type, enabled=False):
            if self.symmetries or self.shift:
                images = self._place(images, generator)
            steps = self._steps()
            if not steps:
                return images
            planes = images.permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.contiguous_format)
            for step in steps:
                planes = step(planes, generator)
            changed = torch.empty_like(images, memory_format=torch.contiguous_format)
            return changed.copy_(planes.clamp_(0, 255).round_().permute(0, 2, 3, 1))

    def mix(self, images: Tensor, targets: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """:func:`mixup` with this object's alpha; the arguments themselves where it is 0."""
        return mixup(images, targets, self.mixup, generator) if self.mixup > 0 else (images, targets)

    def _steps(self) -> list[Callable[[Tensor, torch.Generator], Tensor]]:
        """What is switched on: float planes (B, 3, H, W) in, the same out; they may be changed in place."""
        colour = self.brightness > 0 or self.contrast > 0 or self.saturation > 0 or self.hue > 0
        switched = (
            (self.crop > 0, self._crop),
            (self.scale > 0, self._zoom),
            (self.blur > 0 and self.blur_sigma > 0, self._blur),
            (self.stain > 0, self._stain),
            (colour, self._colour),
            (self.noise > 0, self._noise),
            (self.jpeg > 0, self._jpeg),
        )
        return [step for on, step in switched if on]

    def _place(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Symmetries and shifts: which pixel goes where, for bytes as they are."""
        count, size = images.shape[:2]
        sampled = torch.randint(SYMMETRIES if self.symmetries else 1, (count,), generator=generator)
        taken = _pixels_taken(size, images.device)[sampled.to(images.device)]
        if self.shift:
            for axis, shape in ((1, (count, size, 1)), (2, (count, 1, size))):
                moved = torch.randint(-self.shift, self.shift + 1, (count, 1), generator=generator)
                source = (torch.arange(size) - moved).abs()
                source = size - 1 - (size - 1 - source).abs()  # reflected at both ends
                taken = taken.gather(axis, source.view(shape).expand_as(taken).to(images.device))
        taken += size * size * torch.arange(count, device=images.device).view(-1, 1, 1)
        return images.reshape(-1, 3).index_select(0, taken.flatten()).view(images.shape)

    def _crop(self, planes: Tensor, generator: torch.Generator) -> Tensor:
        side = 1 - torch.rand(len(planes), generator=generator).mul_(self.crop)
        places = torch.rand((2, len(planes)), generator=generator)
        rows, columns = (_crop_matrix(side.to(planes.device), at.to(planes.device), planes.shape[-1]) for at in places)
        return rows[:, None] @ planes @ columns.mT[:, None]

    def _zoom(self, planes: Tensor, generator: torch.Generator) -> Tensor:
        zoom = _uniform(len(planes), math.log1p(self.scale), generator).exp_().to(planes.device)
        return _along_both(planes, _zoom_matrix(zoom, planes.shape[-1]))

    def _blur(self, planes: Tensor, generator: torch.Generator) -> Tensor:
        rows = _some(len(planes), self.blur, generator).to(planes.device)
        sigma = torch.rand(len(planes), generator=generator).mul_(self.blur_sigma).to(planes.device)
        planes[rows] = _along_both(planes[rows], _blur_matrix(sigma[rows], planes.shape[-1]))
        return planes

    def _stain(self, planes: Tensor, generator: torch.Generator) -> Tensor:
        factor, offset = (_uniform((len(planes), 3), self.stain, generator).to(planes.device) for _ in range(2))
        light = planes.add_(1).log_()
        if self.stain_space == "hed":
            vectors = torch.tensor(_HED, device=planes.device).T.expand(len(planes), 3, 3)
        else:
            vectors, found = _macenko_vectors(_WHITE_DENSITY - light[:, :, ::2, ::2].flatten(2))
            factor, offset = (jitter[:, :2] * found[:, None] for jitter in (factor, offset))
        # density' = density + V diag(factor) V^+ density + V offset; what V cannot explain stays as it is.
        matrix = torch.eye(3, device=planes.device) + (vectors * factor[:, None]) @ _pseudo_inverse(vectors)
        density = (vectors @ offset[:, :, None]) + _WHITE_DENSITY * (matrix.sum(2, keepdim=True) - 1)
        return _colour_transform(light, matrix, -density).exp_().sub_(1)

    def _colour(self, planes: Tensor, generator: torch.Generator) -> Tensor:
        draw = (_uniform(len(planes), s, generator) for s in (self.brightness, self.contrast, self.saturation))
        brightness, contrast, saturation = ((1 + jitter).to(planes.device).view(-1, 1, 1) for jitter in draw)
        turn = _uniform(len(planes), 2 * math.pi * self.hue, generator).to(planes.device)
        luma = torch.tensor(_LUMA, device=planes.device)
        grey = planes.mean((2, 3)) @ luma
        # Saturation and hue leave greys alone, so the offset of the contrast passes through them unchanged.
        matrix = contrast * brightness * _chroma_matrix(saturation, turn, luma)
        offset = (1 - contrast) * brightness * grey.view(-1, 1, 1)
        return _colour_transform(planes, matrix, offset.expand(-1, 3, 1))

    def _noise(self, planes: Tensor, generator: torch.Generator) -> Tensor:
        sigma = torch.rand(len(planes), generator=generator).mul_(self.noise).to(planes.device)
        length = planes[0].numel()
        tape = _noise_tape(planes.device, max(TAPE, 4 * length))
        start = torch.randint(len(tape) - length, (len(planes),), generator=generator).to(planes.device)
        noise = tape.unfold(0, length, 1).index_select(0, start).view_as(planes)
        return planes.addcmul_(noise, sigma.view(-1, 1, 1, 1))

    def _jpeg(self, planes: Tensor, generator: torch.Generator) -> Tensor:
        rows = _some(len(planes), self.jpeg, generator).to(planes.device)
        low, high = self.jpeg_quality
        quality = torch.randint(low, high + 1, (len(planes),), generator=generator).to(planes.device)
        planes[rows] = jpeg(planes[rows].clamp_(0, 255).round_(), quality[rows])
        return planes


def _uniform(shape: int | tuple[int, ...], reach: float, generator: torch.Generator) -> Tensor:
    """Uniform between -reach and reach, on the CPU."""
    return torch.rand(shape, generator=generator).mul_(2 * reach).sub_(reach)


def _some(count: int, probability: float, generator: torch.Generator) -> Tensor:
    """The row numbers of those of ``count`` patches that are drawn."""
    return (torch.rand(count, generator=generator) < probability).nonzero()[:, 0]


@cache
def _pixels_taken(size: int, device: torch.device) -> Tensor:
    """(8, N, N): the number of the pixel that comes to each place under each symmetry."""
    numbers = torch.arange(size * size).view(size, size, 1)
    return torch.stack([symmetry(numbers, k)[..., 0] for k in range(SYMMETRIES)]).to(device)


def _along_both(planes: Tensor, matrix: Tensor) -> Tensor:
    """Apply ``matrix`` (B, N, N) down the columns and along the rows of each plane of (B, C, N, N)."""
    across = (planes.flatten(1, 2) @ matrix.mT).view_as(planes)
    down = matrix @ across.transpose(1, 2).flatten(2)
    return down.view(across.transpose(1, 2).shape).transpose(1, 2)


def _zoom_matrix(zoom: Tensor, size: int) -> Tensor:
    """(B, N, N) that enlarges N pixels about their middle by ``zoom`` (B,), linearly, reflected at both ends."""
    middle, last, pixels = (size - 1) / 2, size - 1, torch.arange(size, device=zoom.device)
    source = (pixels[:, None] - middle) / zoom.view(-1, 1, 1) + middle
    # A reduced patch takes the mean of more than a pixel, or it would show aliases that no scanner makes.
    steepness = zoom.view(-1, 1, 1).clamp(max=1)
    weights = (1 - (source - pixels).abs_().mul_(steepness)).clamp_(min=0)
    weights[..., 1:] += (1 - (source + pixels[1:]).abs_().mul_(steepness)).clamp_(min=0)
    weights[..., :-1] += (1 - (source - 2 * last + pixels[:-1]).abs_().mul_(steepness)).clamp_(min=0)
    return weights / weights.sum(-1, keepdim=True)


def _crop_matrix(side: Tensor, place: Tensor, size: int) -> Tensor:
    """(B, N, N) that enlarges a run of N pixels' ``side`` (B,), a share of them, to N pixels, linearly.

    ``place`` (B,) says where it lies: 0 begins at the first pixel, 1 ends at the last.
    """
    pixels = torch.arange(size, device=side.device)
    start = place * (1 - side) * size
    source = (start[:, None] + (pixels + 0.5) * side[:, None] - 0.5).clamp(0, size - 1)
    weights: Tensor = (1 - (source[:, :, None] - pixels).abs()).clamp_(min=0)
    return weights


def _blur_matrix(sigma: Tensor, size: int) -> Tensor:
    """(B, N, N) that blurs N pixels, reflected at both ends, by Gaussians of ``sigma`` (B,) pixels."""
    last, pixels = size - 1, torch.arange(size, device=sigma.device)
    width = sigma.clamp(min=1e-3).view(-1, 1)
    distance = torch.arange(2 * size - 1, device=sigma.device)
    # Cut where it is invisible: the tail beyond is denormal numbers, which are slow to multiply.
    share = torch.exp(-0.5 * (distance / width) ** 2) * (distance < 5 * width)
    weights = share[:, (pixels[:, None] - pixels).abs()]
    weights[..., 1:] += share[:, pixels[:, None] + pixels[1:]]
    weights[..., :-1] += share[:, 2 * last - pixels[:, None] - pixels[:-1]]
    return weights / weights.sum(-1, keepdim=True)


def _colour_transform(planes: Tensor, matrix: Tensor, offset: Tensor) -> Tensor:
    """A 3 x 3 matrix and an offset (B, 3, 1) on the colours of (B, 3, H, W)."""
    return torch.baddbmm(offset, matrix, planes.flatten(2)).view_as(planes)


def _pseudo_inverse(vectors: Tensor) -> Tensor:
    """(B, k, 3) that gives the amounts of the k independent columns of ``vectors`` (B, 3, k) in a colour."""
    return _inverse(vectors.mT @ vectors) @ vectors.mT


def _inverse(matrix: Tensor) -> Tensor:
    """The inverse of small matrices; by way of the CPU, since not every device can invert."""
    inverse: Tensor = torch.linalg.inv(matrix.cpu())
    return inverse.to(matrix.device)


def _chroma_matrix(saturation: Tensor, turn: Tensor, luma: Tensor) -> Tensor:
    """(B, 3, 3): stretches and turns the colour plane of YIQ; greys stay where they are."""
    to_yiq = torch.stack((luma, *torch.tensor(((0.596, -0.274, -0.322), (0.211, -0.523, 0.312))).to(luma)))
    # The rows of I and Q sum to 0 and that of Y to 1, so that grey is exactly a Y.
    cosine, sine = turn.cos().view(-1, 1, 1) * saturation, turn.sin().view(-1, 1, 1) * saturation
    change = torch.zeros(len(turn), 3, 3, device=luma.device)
    change[:, 0, 0] = 1
    change[:, 1:2, 1:2], change[:, 2:, 2:] = cosine, cosine
    change[:, 1:2, 2:], change[:, 2:, 1:2] = -sine, sine
    return _inverse(to_yiq) @ change @ to_yiq


def _macenko_vectors(density: Tensor) -> tuple[Tensor, Tensor]:
    """The two stain vectors of each patch (Macenko et al. 2009).

    Args:
        density: (B, 3, P) optical densities of P pixels, natural logarithm.

    Returns:
        Unit vectors (B, 3, 2), and (B,) 1.0 where two stains were found, else 0.0 and the usual H&E vectors.
    """
    seen = (density > 0.15 * math.log(10)).all(1)  # the paper's 0.15 is of a decimal logarithm
    count = seen.sum(1)
    weight = seen[:, None] / count.clamp(min=1).view(-1, 1, 1)
    centred = density - (density * weight).sum(2, keepdim=True)
    covariance = (centred * weight) @ centred.mT
    plane = torch.linalg.eigh(covariance.cpu()).eigenvectors[:, :, 1:].flip(2).to(density.device)
    plane = plane * torch.where(plane.sum(1, keepdim=True) < 0, -1.0, 1.0)
    first, second = (plane.mT @ density).unbind(1)
    angle = torch.atan2(second, first).masked_fill(~seen, torch.inf).sort(1).values
    ends = ((count - 1).clamp(min=0)[:, None] * torch.tensor((0.01, 0.99), device=density.device)).round().long()
    extreme = angle.gather(1, ends)
    vectors = plane @ torch.stack((extreme.cos(), extreme.sin()), 1)
    apart = (extreme[:, 1] - extreme[:, 0]).nan_to_num(0, 0, 0)
    found = (count > 0.05 * density.shape[2]) & (apart > 0.05) & (vectors > -0.05).all(2).all(1)
    usual = torch.tensor(_HED[:2], device=density.device).T
    return torch.where(found[:, None, None], vectors, usual), found.float()


TAPE = 2**20


@cache
def _noise_tape(device: torch.device, count: int) -> Tensor:
    """``count`` normal deviates. A stretch from a random start costs a tenth of drawing them anew."""
    return torch.randn(count, generator=torch.Generator().manual_seed(0)).to(device)


# ITU-T T.81, tables K.1 and K.2.
_LUMINANCE_STEPS = """
16 11 10 16 24 40 51 61 12 12 14 19 26 58 60 55 14 13 16 24 40 57 69 56 14 17 22 29 51 87 80 62
18 22 37 56 68 109 103 77 24 35 55 64 81 104 113 92 49 64 78 87 103 121 120 101 72 92 95 98 112 100 103 99
"""
_CHROMINANCE_STEPS = """
17 18 24 47 99 99 99 99 18 21 26 66 99 99 99 99 24 26 56 99 99 99 99 99 47 66 99 99 99 99 99 99
99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99
"""
_YCBCR = ((0.299, 0.587, 0.114), (-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312))


def jpeg(planes: Tensor, quality: Tensor) -> Tensor:
    """What baseline JPEG (ITU-T T.81, JFIF colours, 4:2:0) leaves of images, without writing a file.

    Only what loses something is done: rounding of colours, halving of the chroma planes, quantisation of the
    cosine transform. It is within about a grey level, on average, of what libjpeg writes and reads.

    Args:
        planes: float (B, 3, H, W), whole numbers 0 to 255; H = W. Where they are no multiple of 16, the last row and
            column are repeated up to one, as encoders do.
        quality: (B,) 1 to 100, on libjpeg's scale.

    Returns:
        float (B, 3, H, W), whole numbers 0 to 255.
    """
    side = planes.shape[-1]
    if lacking := -side % 16:
        planes = functional.pad(planes, (0, lacking, 0, lacking), mode="replicate")
    to_ycbcr = torch.tensor(_YCBCR, device=planes.device)
    colours = _colour_transform(planes, to_ycbcr.expand(len(planes), 3, 3), _level(planes)).round_()
    luminance = _quantised(colours[:, :1], quality, _LUMINANCE_STEPS)
    chrominance = _quantised(functional.avg_pool2d(colours[:, 1:], 2).round_(), quality, _CHROMINANCE_STEPS)
    # The triangle filter by which libjpeg doubles the chroma planes is bilinear interpolation.
    doubled = functional.interpolate(chrominance, scale_factor=2, mode="bilinear", align_corners=False)
    colours = torch.cat((luminance, doubled), 1)
    to_rgb = _inverse(to_ycbcr).expand(len(planes), 3, 3)
    return _colour_transform(colours, to_rgb, -to_rgb @ _level(planes)).round_().clamp_(0, 255)[..., :side, :side]


def _level(planes: Tensor) -> Tensor:
    """JPEG takes 128 off the luminance; the chrominances are signed as they are."""
    return torch.tensor((-128.0, 0.0, 0.0), device=planes.device).view(1, 3, 1).expand(len(planes), 3, 1)


def _quantised(planes: Tensor, quality: Tensor, steps: str) -> Tensor:
    """``planes`` (B, C, H, W), the cosine transform of each 8 x 8 block rounded to multiples of ``steps``."""
    percent = torch.where(quality < 50, 5000 // quality, 200 - 2 * quality).view(-1, 1, 1, 1)
    size = planes.shape[-1]
    table = _tiled(steps, size, planes.device)
    step = ((table * percent + 50) // 100).clamp_(1, 255).float()
    cosines = _block_cosines(size, planes.device).expand(len(planes), size, size)
    frequencies = _along_both(planes, cosines)
    frequencies = frequencies.div_(step).round_().mul_(step)
    return _along_both(frequencies, cosines.mT).round_()


@cache
def _tiled(steps: str, size: int, device: torch.device) -> Tensor:
    return torch.tensor([int(step) for step in steps.split()]).view(8, 8).tile(size // 8, size // 8).to(device)


@cache
def _block_cosines(size: int, device: torch.device) -> Tensor:
    """The orthonormal cosine transform (DCT-II) of each run of 8 out of ``size`` samples, as one matrix."""
    n = torch.arange(8, dtype=torch.float64)
    block = torch.cos(math.pi * (2 * n + 1) * n[:, None] / 16) / 2
    block[0] /= math.sqrt(2)
    return torch.kron(torch.eye(size // 8), block.float()).to(device)
