"""Datasets: building, reading, merging and checking dataset folders."""
