"""Silent devices."""

from components import alerts, live

sensors = live("SENSORS", "sensors.{device}", look_back="PT15M", time="at")
alerts(sensors, "celsius", {"silent": "silent for 5m"}, by="device")
