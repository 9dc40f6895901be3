"""The commands of `manasight`; none but `train` and `experiments` imports another."""
