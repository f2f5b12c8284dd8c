"""What int8 costs convolution by convolution, and which ones stay in float to keep a budget of AP.

Read in this order: `crop_set` (the people, cut out once), `partial_run` (running from a change on), `proxy` (distances
from float), `findings` (what was measured, on disk), `study` (the measuring), `layer_costs`, `choice` (by a budget),
`table`, `heat_map` and `show` (what a user sees).
"""
