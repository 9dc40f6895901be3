"""How the app and the trainer name a folder of images without any label."""

NO_LABEL = "_none"  # unless --negatives names another
