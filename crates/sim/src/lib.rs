//! Deterministic simulation of whole clusters: the shipped `replica`, `cluster` and `group` code on simulated disks, network and time.
