"""The network: built, trained, measured, exported."""
