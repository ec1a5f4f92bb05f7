"""Executed instructions and memory accesses of listings that can be counted by hand."""

from __future__ import annotations

import re

import pytest

from bench.machine_code import sass
from bench.machine_code.execution import Counts, Launch, Program

# As many trips as the number of the block plus one. In each, half a warp executes three
# instructions of its own (0x60 to 0x80) and the other half one (0x90).
DIVERGING = """
.text.diverging:
        /*0000*/                   S2R R0, SR_TID.X ;
        /*0010*/                   S2R R1, SR_CTAID.X ;
        /*0020*/                   IADD3 R2, R1, 0x1, RZ ;
.L_x_0:
        /*0030*/                   ISETP.GE.AND P0, PT, R0, 0x10, PT ;
        /*0040*/                   BSSY B0, `(.L_x_2) ;
        /*0050*/               @P0 BRA `(.L_x_1) ;
        /*0060*/                   FADD R5, R5, 1 ;
        /*0070*/                   FADD R5, R5, 1 ;
        /*0080*/                   BRA `(.L_x_2) ;
.L_x_1:
        /*0090*/                   FMUL R5, R5, R5 ;
.L_x_2:
        /*00a0*/                   BSYNC B0 ;
        /*00b0*/                   IADD3 R2, R2, -0x1, RZ ;
        /*00c0*/                   ISETP.NE.AND P1, PT, R2, RZ, PT ;
        /*00d0*/               @P1 BRA `(.L_x_0) ;
        /*00e0*/                   IMAD.WIDE.U32 R6, R0, 0x4, c[0x0][0x210] ;
        /*00f0*/                   STG.E desc[UR4][R6.64], R5 ;
        /*0100*/                   EXIT ;
"""
# Divides the thread by a run-time number, as compilers do, and leaves where the remainder is not 0.
# The others load 16 bytes at a distance of 64. What they load decides about the slow path.
DIVIDING = """
.text.dividing:
        /*0000*/                   S2R R0, SR_TID.X ;
        /*0010*/                   I2F.U32.RP R4, c[0x0][0x218] ;
        /*0020*/                   MUFU.RCP R4, R4 ;
        /*0030*/                   IADD3 R2, R4, 0xffffffe, RZ ;
        /*0040*/                   F2I.FTZ.U32.TRUNC.NTZ R3, R2 ;
        /*0050*/                   HFMA2.MMA R2, -RZ, RZ, 0, 0 ;
        /*0060*/                   IADD3 R5, RZ, -R3, RZ ;
        /*0070*/                   IMAD R5, R5, c[0x0][0x218], RZ ;
        /*0080*/                   IMAD.HI.U32 R3, R3, R5, R2 ;
        /*0090*/                   IMAD.HI.U32 R3, R3, R0, RZ ;
        /*00a0*/                   IADD3 R5, -R3, RZ, RZ ;
        /*00b0*/                   IMAD R5, R5, c[0x0][0x218], R0 ;
        /*00c0*/                   ISETP.GE.U32.AND P0, PT, R5, c[0x0][0x218], PT ;
        /*00d0*/               @P0 IADD3 R5, R5, -c[0x0][0x218], RZ ;
        /*00e0*/                   ISETP.NE.AND P1, PT, R5, RZ, PT ;
        /*00f0*/               @P1 EXIT ;
        /*0100*/                   LEA R6, P2, R0, c[0x0][0x210], 0x6 ;
        /*0110*/                   LEA.HI.X R7, R0, c[0x0][0x214], RZ, 0x6, P2 ;
        /*0120*/                   LDG.E.128 R8, desc[UR4][R6.64] ;
        /*0130*/                   ISETP.GT.U32.AND P3, PT, R8, 0x1ffffff, PT ;
        /*0140*/               @P3 BRA `(.L_x_5) ;
        /*0150*/                   MOV R2, 0x170 ;
        /*0160*/                   CALL.REL.NOINC `($slow) ;
        /*0170*/                   EXIT ;
.L_x_5:
        /*0180*/                   EXIT ;
$slow:
        /*0190*/                   RET.REL.NODEC R2 `(dividing) ;
"""
ADDRESS = (0x10000).to_bytes(8, "little")


def counts_of(listing: str, grid: int, threads: int, parameters: bytes) -> Counts:
    (kernel,) = sass.parse(listing).values()
    kernel.parameter_base = 0x210
    return Program(kernel).run(Launch((grid, 1, 1), threads, parameters))


@pytest.mark.parametrize("grid, warps", [(1, 1), (2, 1), (5, 3)])
def test_trips_and_both_sides_of_a_branch_are_counted(grid: int, warps: int) -> None:
    counts = counts_of(DIVERGING, grid, 32 * warps, ADDRESS)
    trips = grid * (grid + 1) // 2
    # Only the first warp has threads below 16; the others take the side of one instruction.
    first, others = trips * (3 + 3 + 1 + 4), trips * (3 + 1 + 4) * (warps - 1)
    assert counts.instructions == grid * warps * (3 + 3) + first + others
    assert counts.kinds["FADD"] == 2 * trips and counts.kinds["FMUL"] == warps * trips
    assert counts.bytes_by_width == {4: 128 * grid * warps} and counts.stored == 128 * grid * warps
    assert counts.requests == grid * warps and counts.sectors == 4 * counts.requests


def test_blocks_that_are_left_out_count_as_the_others() -> None:
    grid = 4000  # blocks of one warp, of which only a part is executed
    counts = counts_of(DIVERGING, grid, 32, ADDRESS)
    assert counts.bytes_by_width[4] == pytest.approx(128 * grid)
    exact = grid * 6 + 11 * grid * (grid + 1) / 2
    assert counts.instructions == pytest.approx(exact, rel=0.05)
    assert counts.instructions != exact


@pytest.mark.parametrize("divisor", [1, 3, 7, 32, 1000])
def test_division_guards_and_wide_loads(divisor: int) -> None:
    threads = 96
    counts = counts_of(DIVIDING, 1, threads, ADDRESS + divisor.to_bytes(4, "little"))
    staying = [range(w, w + 32) for w in range(0, threads, 32)]
    loads = [sum(t % divisor == 0 for t in warp) for warp in staying]
    warps = sum(n > 0 for n in loads)
    # The branch is taken: one EXIT instead of three instructions.
    assert counts.instructions == 3 * 16 + warps * (5 + 1)
    assert counts.bytes_by_width == {16: 16 * sum(loads)} and counts.requests == warps
    assert counts.sectors == pytest.approx(sum(loads))
    assert not counts.assumed and not counts.stored


def test_assumed_branch_is_listed() -> None:
    listing = re.sub(r"CALL.REL.NOINC `\(\$slow\)", "FADD R9, R9, 1", DIVIDING)
    counts = counts_of(listing, 1, 32, ADDRESS + (1).to_bytes(4, "little"))
    assert counts.assumed == {"0x140"}


def test_kernel_that_does_not_end_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.machine_code.execution.MOST_STEPS", 100)
    endless = DIVERGING.replace("R2, R2, -0x1", "R2, R2, 0x0")
    with pytest.raises(RuntimeError, match="does not end"):
        counts_of(endless, 1, 32, ADDRESS)


@pytest.mark.parametrize("taken", [0, 1, 5, 31])
def test_subtraction_carries_into_the_upper_half(taken: int) -> None:
    listing = """
.text.subtracting:
        /*0000*/                   S2R R0, SR_TID.X ;
        /*0010*/                   IADD3 R2, P0, R0, -c[0x0][0x218], RZ ;
        /*0020*/                   IADD3.X R3, RZ, ~RZ, RZ, P0, !PT ;
        /*0030*/                   ISETP.GE.AND P1, PT, R3, RZ, PT ;
        /*0040*/               @P1 STG.E.U8 desc[UR4][R2.64+UR6], R0 ;
        /*0050*/                   EXIT ;
"""
    counts = counts_of(listing, 1, 32, ADDRESS + taken.to_bytes(4, "little"))
    assert counts.stored == 32 - taken  # threads with a difference of at least 0 store
