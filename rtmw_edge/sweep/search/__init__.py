"""Layer choices and calibration settings searched under a budget of AP per part, accuracy against time.

`space`: what may be chosen. `tables`: settings into quantization tables. `study`: who chooses next, and what is
remembered. `front`: what came out. `start`: all of it as the command line runs it.
"""
