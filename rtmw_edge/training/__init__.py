"""Training RTMW on rendered people: losses, augmentation, schedule, weight averaging, the loop."""
