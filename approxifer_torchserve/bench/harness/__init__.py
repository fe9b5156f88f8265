"""What all benches share: a server, load, faults, reports."""
