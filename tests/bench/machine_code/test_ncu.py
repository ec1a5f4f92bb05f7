"""Counted instructions are compared with those that Nsight Compute has measured."""

from __future__ import annotations

import pytest

pytest.importorskip("triton", minversion="3.4", reason="compiling needs Triton 3.4 or newer")

from bench.machine_code import ncu

REPORT = """==PROF== Connected to process 1
"ID","Kernel Name","smsp__inst_executed.sum","l1tex__t_sectors_pipe_lsu_mem_global_op_ld.sum",\
"l1tex__t_sectors_pipe_lsu_mem_global_op_st.sum","launch__registers_per_thread",\
"sm__warps_active.avg.pct_of_peak_sustained_active"
"","","inst","sector","sector","register/thread","%"
"0","void fastmef::loss_kernel<0, 2>(LossArgs)","1,000","10","5","168","18.5"
"1","vectorized_elementwise_kernel","7","1","1","32","50"
"2","backward_kernel","200","10","5","96","40"
""".replace("\\\n", "")


def test_kernels_are_paired_in_order_and_others_skipped() -> None:
    expected = [
        ("loss", {"kernel": "loss_kernel<false, 2>", "warp_instructions": 1010}),
        ("loss", {"kernel": "backward_kernel", "warp_instructions": 100}),
        ("more", {"kernel": "backward_kernel", "warp_instructions": 100}),
    ]
    measured = ncu.parse(REPORT)
    assert [x["instructions"] for x in measured] == [1000, 7, 200]
    pairs = ncu.compare(expected, measured)
    assert [x["ratio"] for x in pairs] == [1.01, 0.5, None]
    assert pairs[0]["registers"] == 168 and pairs[1]["occupancy_percent"] == 40
