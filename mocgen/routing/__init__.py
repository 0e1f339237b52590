"""Recording what attention routed during a run, and showing it."""

from .recorder import RoutingRecorder
from .report import ContextLabel, RoutingReport
from .statistics import RoutingStatistics, statistics
from .summary import summary
from .writer import check_folder, write_report

__all__ = [
    "ContextLabel",
    "RoutingRecorder",
    "RoutingReport",
    "RoutingStatistics",
    "check_folder",
    "statistics",
    "summary",
    "write_report",
]
