"""What train.py is made of: runs, losses of each model, augmentation."""
