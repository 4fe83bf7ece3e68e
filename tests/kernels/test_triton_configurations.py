"""Which configuration the Triton launcher takes, and into how many splits it cuts; nothing is compiled or run."""

import pytest
import torch

from nondecoupling.kernels.triton_configurations import (
    CONFIGURATIONS,
    MOST_SPLITS,
    TMA_CONFIGURATIONS,
    configuration,
    fits_descriptors,
    splits_of,
)


def efficiency(blocks: int, tiles: int, processors: int, splits: int) -> float:
    """Tiles that are needed over tiles that there is time for."""
    waves = -(-blocks * splits // processors)
    return blocks * tiles / (processors * waves * -(-tiles // splits))


@pytest.mark.parametrize("tokens", [2048, 4096, 8192, 16384])
def test_the_splits_keep_an_h100_busy(tokens):
    blocks, tiles = tokens // 128, -(-151_936 // 256)
    splits = splits_of(blocks, tiles, 132)
    assert efficiency(blocks, tiles, 132, splits) > 0.94
    best = max(efficiency(blocks, tiles, 132, other) for other in range(1, MOST_SPLITS + 1))
    assert efficiency(blocks, tiles, 132, splits) == best


def test_a_ceiling_towards_two_waves_would_not():
    """The rule of thumb that these splits replace."""
    blocks, tiles = 8192 // 128, -(-151_936 // 256)
    assert efficiency(blocks, tiles, 132, -(-2 * 132 // blocks)) < 0.82


@pytest.mark.parametrize(("blocks", "tiles"), [(1, 1), (1, 3), (200, 1), (7, 16)])
def test_there_are_no_more_splits_than_tiles(blocks, tiles):
    assert 1 <= splits_of(blocks, tiles, 132) <= min(tiles, MOST_SPLITS)


def test_descriptors_need_rows_at_multiples_of_sixteen_bytes():
    matrix = torch.zeros(4, 16, dtype=torch.bfloat16)
    assert fits_descriptors(matrix)
    assert fits_descriptors(matrix[:, :3])
    assert not fits_descriptors(matrix[:, 1:9])
    assert not fits_descriptors(matrix.T)
    assert not fits_descriptors(torch.zeros(4, 15, dtype=torch.bfloat16))
    assert not fits_descriptors(matrix[:1].expand(4, 16))
    assert not fits_descriptors(matrix[:0])


def test_what_has_no_configuration_for_descriptors_takes_that_for_pointers():
    plain = configuration("stats_forward", torch.bfloat16, descriptors=9)
    assert plain == (TMA_CONFIGURATIONS[9]["stats_forward"]["bfloat16"], True)
    for descriptors in (0, 8, 9, 12):
        for kernel, cases in CONFIGURATIONS.items():
            for name in {key.split(",")[0] for key in cases} - {"unaligned"}:
                for extended in (False, True):
                    tile, by_descriptors = configuration(
                        kernel, getattr(torch, name), extended=extended, descriptors=descriptors
                    )
                    assert by_descriptors <= (descriptors in TMA_CONFIGURATIONS)
                    assert tile.columns % tile.slices == 0


def test_unaligned_rows_of_low_precision_take_smaller_tiles():
    for kernel, cases in CONFIGURATIONS.items():
        aligned, _ = configuration(kernel, torch.float16)
        unaligned, by_descriptors = configuration(kernel, torch.float16, aligned=False)
        assert not by_descriptors
        assert (unaligned == cases["unaligned"] != aligned) if "unaligned" in cases else True
    cases = CONFIGURATIONS["stats_forward"]
    for extended in (False, True):
        single, _ = configuration("stats_forward", torch.float32, extended=extended, aligned=False)
        assert single == cases["float32, unaligned"] != cases["float32"]
