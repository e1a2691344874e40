"""Newest value of each device."""

from components import latest_values, live

sensors = live("SENSORS", "sensors.{device}", look_back="PT15M", time="at")
latest_values(sensors, "celsius", by="device")
