"""The demonstration: from slide files to a trained network and a picture, unattended."""
