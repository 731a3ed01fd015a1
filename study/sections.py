"""Stand-in until every room imports from study.report."""
from study.report import Figure, Section, Table  # noqa: F401
