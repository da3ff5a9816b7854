"""Statistics shared by all analyses: jackknife, bootstrap, paired differences, means over seeds."""
