"""The charts of a report: pure functions from its data to inline SVG."""
