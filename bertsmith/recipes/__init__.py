"""Runs with a name: functions that return a `Run`, a file per family."""
