"""What Twitter's days of August 2021 are like, as `scripts/fit_daily.py` found and wrote it."""

from mosel.evaluation.daily import Daily

TWITTER = Daily(
    day=(54.23, -4.655, 10.583, -4.594, -6.996, 1.038, -1.004, -1.672, 1.033),
    spikes_a_day=16.46,
    lengths_min=(1.0, 1.0, 1.0, 1.4, 2.0, 3.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0, 12.0, 14.8, 18.0, 64.0),
    heights_rps=(14, 16, 20, 25, 31, 79, 124, 159, 173, 177, 179, 180, 183, 184, 186, 190, 223),
    held=0.45,
    wander=0.0515,
    wander_kept=0.9902,
    variance_of_mean=1.127,
)
