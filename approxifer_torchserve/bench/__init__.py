"""Load, fault schedules and reports: what coded serving costs and saves, measured."""
