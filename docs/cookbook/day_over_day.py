"""Today and yesterday."""

from components import compare, live, look_back_for, rolling

visits = live("VISITS", "visits.{site}", look_back=look_back_for("P1D"), time="at")
compare(rolling(visits, "visits", "PT1H"), "visits", "P1D")
