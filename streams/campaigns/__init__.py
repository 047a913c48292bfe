"""Rolling windows, rates and alerts from minute counts. Pure."""
