"""What is drawn on slides: annotation files as polygons, class masks of them, and their areas."""
