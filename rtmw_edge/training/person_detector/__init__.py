"""The training of our own person detector on rendered scenes; `tools/train_detector.py` is its command."""
