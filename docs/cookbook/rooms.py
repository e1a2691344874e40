"""Rooms that are too warm."""

from components import latest_values, live, sql, values

sensors = live("SENSORS", "sensors.{device}", look_back="PT15M", time="at")
too_warm = sql(
    "SELECT devices.room, max(celsius) - any_value(devices.most) AS above"
    " FROM sensors JOIN devices ON sensors.device = devices.key GROUP BY devices.room",
    sensors=sensors,
    devices=values("devices"),
)
latest_values(too_warm, "above", by="room")
