"""What Linux says of the processor; free of torch."""

from pathlib import Path


def cpu_info(key: str) -> list[str]:
    """Values of a key of /proc/cpuinfo, one a logical core; none on other systems, or where the key is not known."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    pairs = (line.partition(":") for line in lines)
    return [value.strip() for name, _, value in pairs if name.strip() == key]
