"""Token bytes to events. Pure: values in, values out, no clock, no chance."""
