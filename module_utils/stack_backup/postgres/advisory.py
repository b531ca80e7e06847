"""Which of the server's own programs have holes that are known, for a dump or a server to use. Pure."""

from __future__ import annotations

__all__ = ["outdated"]

# By major version: the minor release in which pg_dump, pg_restore and psql were mended of each hole; one that is not
# there was mended in no release of that version. Source: postgresql.org, "Security Information".
# 2024-7348: who may make objects has pg_dump run code as the role that dumps. 2025-8714 and 8715: a dump has psql run
# commands where it is restored. 2026-6477: a server writes over pg_dump's memory, by its large objects.
_MENDED = {
    12: {"CVE-2024-7348": 20},
    13: {"CVE-2024-7348": 16, "CVE-2025-8714": 22, "CVE-2025-8715": 22},
    14: {"CVE-2024-7348": 13, "CVE-2025-8714": 19, "CVE-2025-8715": 19, "CVE-2026-6477": 23},
    15: {"CVE-2024-7348": 8, "CVE-2025-8714": 14, "CVE-2025-8715": 14, "CVE-2026-6477": 18},
    16: {"CVE-2024-7348": 4, "CVE-2025-8714": 10, "CVE-2025-8715": 10, "CVE-2026-6477": 14},
    17: {"CVE-2024-7348": 0, "CVE-2025-8714": 6, "CVE-2025-8715": 6, "CVE-2026-6477": 10},
    18: {"CVE-2024-7348": 0, "CVE-2025-8714": 0, "CVE-2025-8715": 0, "CVE-2026-6477": 4},
}
_ALL = tuple(_MENDED[18])


def outdated(version: int, image: str) -> str:
    """What is wrong with the programs of an image, which are of ``version`` (170006 is 17.6); empty when nothing is."""
    major, minor = divmod(version, 10000)
    if major > max(_MENDED):
        return ""
    mended = _MENDED.get(major, {})
    holes = [name for name in _ALL if name not in mended or minor < mended[name]]
    if not holes:
        return ""
    known = f"{major}.{minor}" if version else "an unknown version"
    cure = f"update it to {major}.{max(mended.values(), default=0)} or later"
    if set(mended) != set(_ALL):
        cure = "no release of that version has them all mended: move to a later one"
    return f"the pg_dump, pg_restore and psql of the image {image} are of {known}, which has {', '.join(holes)}: {cure}"
