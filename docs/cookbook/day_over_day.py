"""Today and yesterday."""

from components import compare, every, live, look_back_for

visits = live("VISITS", "visits.{site}", look_back=look_back_for("P1D"), time="at")
compare(every("PT1H", visits, visits="sum(visits)"), "visits", "P1D")
