"""The best that a site can do: perfect foresight as a linear programme, and the same with forecasts."""
