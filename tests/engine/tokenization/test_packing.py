"""How packings are written, and what cannot be one."""

from __future__ import annotations

import pytest

from layerlake.engine.tokenization.packing import Packing, parse_packing
from layerlake.store.errors import InvalidInput


@pytest.mark.parametrize(
    ("written", "packing", "canonical"),
    [
        ("pair", Packing("pair"), "pair"),
        (" first ", Packing("first"), "first"),
        ("trim( 128 )", Packing("trim", 128), "trim(128)"),
        ("window(384, 128,64)", Packing("window", 384, 128, 64), "window(384,128,64)"),
        (" window (0384,128)", Packing("window", 384, 128), "window(384,128)"),
    ],
)
def test_packings_are_read(written: str, packing: Packing, canonical: str) -> None:
    assert parse_packing(written) == packing
    assert str(packing) == canonical
    assert parse_packing(canonical) == packing


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("pairs", "no packing 'pairs'; choose one of single, pair, first, second, trim(LENGTH), w"),
        ("", "no packing ''"),
        (3, "no packing 3"),
        ("trim(-3)", "no packing 'trim(-3)'"),
        ("trim(128", "no packing"),
        ("pair(3)", "no packing"),
        ("trim", "no packing"),
        ("trim()", "packing 'trim()' cannot be read; write trim(LENGTH) with whole numbers"),
        ("trim(1,2)", "write trim(LENGTH)"),
        ("window(1)", "write window(LENGTH,STRIDE) or window(LENGTH,STRIDE,FIRST) with"),
        ("window(9,8,7,6)", "cannot be read"),
        ("window(9,,7)", "cannot be read"),
        ("window(9,1 2)", "cannot be read"),
        ("trim(12345678901)", "cannot be read"),
        ("trim(0)", "has a 0 in it; every number must be 1 or more"),
        ("window(9,0)", "has a 0 in it"),
        ("window(384,384)", "has a stride of 384 pieces in windows of 384; it must be shorter"),
        ("window(384,128,500)", "has a first text of 500 pieces in windows of 384"),
    ],
)
def test_what_is_no_packing(written: str, said: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_packing(written)
    assert said in str(caught.value)
