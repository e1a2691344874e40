"""Today and yesterday."""

from components import compare, live, look_back_for

visits = live("VISITS", "visits.{site}", look_back=look_back_for("P1D"), time="at")
compare(visits, "visits", "P1D")
