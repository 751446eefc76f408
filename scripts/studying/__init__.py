"""What `scripts/studies` is made of: declared studies, their training, their numbers, and the pages about them."""
