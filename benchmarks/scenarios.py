"""A table of 10⁸ rows on eight GPUs, four workers, four servers: `scaling` with measured costs.

What was not measured is here as a constant: figures of vendors, and assumptions about a GPU.
"""

from __future__ import annotations

from collections.abc import Callable

from benchmarks import costs, saving, scaling
from benchmarks.scaling import Device, Servers, Sizes
from benchmarks.tables import table

ROWS = 10**8
GPUS, WORKERS, SERVERS = 8, 4, 4
BATCH = 1024  # of one device

# Bytes a second in one direction, as vendors and standards state them; a transfer reaches less.
NVLINK, PCIE = 450e9, 31.5e9
ETHERNET = {"100 Gbit/s": 12.5e9, "25 Gbit/s": 3.125e9, "10 Gbit/s": 1.25e9}
LINKS = {"NVLink (H100)": NVLINK, "PCIe 4.0 x16": PCIE, **ETHERNET}

# Assumptions: no GPU was measured.
GPU_SAMPLES, GPU_ROWS = 50_000.0, 1e9
LATENCY_INSIDE, LATENCY_BETWEEN = 30e-6, 200e-6
GPU = "GPU (assumed)"


def measure(
    sizes: dict[str, Sizes],
    cpu: dict[str, Device],
    server_rows: float,
    save: Callable[[float], float],
) -> dict:
    """All that the tables show, by model.

    Args:
        sizes: of each model, at whatever size of table.
        cpu: what this machine was measured to do with each, as one device.
        server_rows: rows of a gradient a second that a server like this machine applies.
        save: from bytes of a checkpoint to the seconds that it takes.
    """
    found = {}
    for name, at_size in sizes.items():
        large = at_size._replace(rows=ROWS)
        gpu = Device(GPU_SAMPLES, GPU_ROWS, NVLINK, LATENCY_INSIDE)
        devices = {GPU: gpu, "this machine": cpu[name]}
        found[name] = {
            "sizes": large._asdict(),
            "memory": _memory(large),
            "save_seconds": save(large.checkpoint_bytes),
            "ceilings": {
                device: {
                    link: {
                        "ceiling": scaling.ceiling(large, of._replace(link=rate)),
                        "worthwhile": scaling.worthwhile(large, of._replace(link=rate)),
                    }
                    for link, rate in LINKS.items()
                }
                for device, of in devices.items()
            },
            "synchronous": _synchronous(large, gpu),
            "asynchronous": _asynchronous(large, gpu, server_rows),
        }
    return found


def tables(found: dict) -> list[str]:
    """Memory, ceilings, steps and limits of each model."""
    return [text for name, result in found.items() for text in _of_model(name, result)]


def _memory(sizes: Sizes) -> dict[str, float]:
    return {
        "table and accumulators": sizes.table_bytes,
        "dense weights, gradients, moments": 16 * sizes.parameters,
        f"gradient rows of {GPUS * BATCH:,} samples": GPUS
        * BATCH
        * sizes.trained
        * sizes.row_bytes,
        f"table and accumulators on one of {SERVERS} servers": sizes.table_bytes / SERVERS,
        "checkpoint": sizes.checkpoint_bytes,
    }


def _synchronous(sizes: Sizes, gpu: Device) -> dict[str, dict]:
    cases = {f"{GPUS} GPUs, NVLink": (gpu, GPUS, 1)}
    for name, rate in ETHERNET.items():
        between = gpu._replace(link=rate, latency=LATENCY_BETWEEN)
        cases[f"{WORKERS} workers, {name}"] = (between, WORKERS, WORKERS)
    found = {}
    for name, (device, replicas, processes) in cases.items():
        batch = replicas * BATCH
        parts = scaling.synchronous(sizes, device, batch, replicas, processes)
        alone = BATCH / sum(scaling.synchronous(sizes, device, BATCH, 1).values())
        speed = batch / sum(parts.values())
        exchanges = scaling.exchanges(sizes, batch, replicas, processes)
        found[name] = {
            "parts": parts,
            "received": {exchange.what: exchange.received for exchange in exchanges},
            "samples_per_second": speed,
            "efficiency": speed / (replicas * alone),
        }
    return found


def _asynchronous(sizes: Sizes, gpu: Device, server_rows: float) -> dict[str, dict]:
    shares = costs.shares(sizes, BATCH)
    skewed = costs.hottest(sizes, BATCH, SERVERS)
    found = {}
    for name, rate in ETHERNET.items():
        device = gpu._replace(link=rate, latency=LATENCY_BETWEEN)
        for ids, share in (("hash", 1 / SERVERS), ("vocabulary", skewed)):
            servers = Servers(SERVERS, server_rows, rate, share)
            limits = scaling.asynchronous(sizes, device, servers, BATCH, WORKERS, shares)
            found[f"{name}, {ids}"] = limits | {"hottest": share}
    received, sent = scaling.exchanged(sizes, BATCH, shares)
    return {"shares": shares._asdict(), "received": received, "sent": sent, "limits": found}


def _of_model(name: str, result: dict) -> list[str]:
    bytes_of = [[what, f"{value / 1e6:,.0f}"] for what, value in result["memory"].items()]
    ceilings = [
        [
            f"{device}, {link}",
            f"{value['ceiling']:,.0f}",
            f"{value['worthwhile']:,.1f}",
        ]
        for device, by_link in result["ceilings"].items()
        for link, value in by_link.items()
    ]
    steps = [
        [
            case,
            *(f"{1000 * seconds:,.2f}" for seconds in found["parts"].values()),
            f"{found['samples_per_second']:,.0f}",
            f"{found['efficiency']:.0%}",
        ]
        for case, found in result["synchronous"].items()
    ]
    parts = next(iter(result["synchronous"].values()))["parts"]
    asynchronous = result["asynchronous"]
    kinds = ("workers", "links of servers", "updates by servers")
    limits = [
        [case, *(f"{found[kind]:,.0f}" for kind in kinds), f"{found['hottest']:.2f}"]
        for case, found in asynchronous["limits"].items()
    ]
    exchanged = (
        f"a worker's step of {BATCH:,} samples receives {asynchronous['received'] / 1e6:,.1f} MB "
        f"and sends {asynchronous['sent'] / 1e6:,.1f} MB"
    )
    seconds = result["save_seconds"]
    saved = (
        f"a checkpoint takes {seconds:,.1f} s, {scaling.overhead(seconds, saving.INTERVAL):.1%} "
        f"every {saving.INTERVAL} s; {saving.MOST_OVERHEAD:.0%} every "
        f"{seconds / saving.MOST_OVERHEAD:,.0f} s"
    )
    return [
        table(f"{name}, {ROWS:,} rows: memory, MB", ["", "MB"], bytes_of),
        saved,
        table(
            f"{name}: what no number of synchronous replicas exceeds, and how many pay",
            ["", "samples/s", "replicas"],
            ceilings,
        ),
        table(
            f"{name}: a synchronous step of {BATCH:,} samples a device, ms",
            ["", *parts, "samples/s", "efficiency"],
            steps,
        ),
        table(
            f"{name}: {WORKERS} asynchronous workers, {SERVERS} servers: samples/s at most",
            ["", *kinds, "hottest server"],
            limits,
        ),
        exchanged,
    ]
