"""A small project whose stack has a PostgreSQL tier."""

from pathlib import Path

MEMBERS = """\
members:
  - {name: pg-0, component: postgresql, node: node-1}
  - {name: pg-1, component: postgresql, node: node-2}
  - {name: pg-2, component: postgresql, node: node-3}
  - {name: pgbouncer-0, component: pgbouncer, node: node-1}
  - {name: pgbouncer-1, component: pgbouncer, node: node-2}
  - {name: pgbouncer-2, component: pgbouncer, node: node-3}
  - {name: postgres-exporter-0, component: postgres-exporter, node: observer}
  - {name: postgresql-client, component: postgresql-client, node: observer}
"""


def with_tier_of(tier: str, project: Path, old: str = "", new: str = "") -> Path:
    """The small project's stack with a tier, its lines up to the stack's own members, in which ``old`` is replaced by
    ``new``.
    """
    path = project / "stacks/small.yaml"
    assert old in tier
    path.write_text(path.read_text().replace("members:\n", tier.replace(old, new, 1) if old else tier, 1))
    return project
