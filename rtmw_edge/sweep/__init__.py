"""Cells of the matrix variant x target x precision: what one costs in accuracy and time, and a report of many."""
