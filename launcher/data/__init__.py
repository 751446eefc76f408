"""Making the batches of training images, in processes of their own."""
