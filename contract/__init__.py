"""What trainer and app share: how an image file becomes the pixels that the model sees. Needs Pillow and NumPy only."""
